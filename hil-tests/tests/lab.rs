//! The lab itself: what every other test stands on.

use std::{net::TcpListener, time::Duration};

use anyhow::{Result, ensure};
use weft_hil::{
    capture::Capture,
    lab::{Family, Lab},
    process::Daemon,
    requirement::{CURL, PING, Requirement, TSHARK},
    suite::Suite,
};

fn main() -> std::process::ExitCode {
    Suite::new()
        .test("two_hosts_reach_each_other_through_the_router", &[Requirement::Netns, PING], hosts_reach_each_other)
        .test("a_moved_host_has_new_addresses_only", &[Requirement::Netns, PING], a_moved_host_has_new_addresses_only)
        .test("a_socket_made_inside_a_namespace_stays_there", &[Requirement::Netns, CURL], a_socket_stays)
        .test("a_daemon_runs_inside_its_namespace", &[Requirement::Netns], a_daemon_runs_inside)
        .test(
            "a_capture_holds_what_passed_and_tshark_names_it",
            &[Requirement::Netns, PING, TSHARK],
            a_capture_holds_what_passed,
        )
        .run()
}

fn hosts_reach_each_other() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    for family in [Family::V4, Family::V6] {
        a.run("ping", &["-c", "1", "-W", "5", &b.address(family).to_string()])?;
    }
    Ok(())
}

fn a_moved_host_has_new_addresses_only() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, mut b) = (lab.host("a")?, lab.host("b")?);
    let before = b.ipv4().to_string();
    lab.move_host(&mut b)?;
    a.run("ping", &["-c", "1", "-W", "5", &b.ipv4().to_string()])?;
    ensure!(a.run("ping", &["-c", "1", "-W", "1", &before]).is_err(), "the old address {before} still answers");
    Ok(())
}

fn a_socket_stays() -> Result<()> {
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let listener = b.enter(|| TcpListener::bind("0.0.0.0:8000"))??;
    let refused = a.run("curl", &["--silent", "--max-time", "5", &format!("telnet://{}:8001", b.ipv4())]);
    ensure!(refused.is_err(), "nothing listens on port 8001");
    let mut curl = Daemon::spawn("curl", a.command("curl").args(["--silent", &format!("telnet://{}:8000", b.ipv4())]))?;
    let (stream, peer) = listener.accept()?;
    ensure!(peer.ip() == a.ipv4(), "the connection comes from {peer}");
    drop(stream);
    ensure!(curl.wait(Duration::from_secs(10))?.success());
    Ok(())
}

fn a_daemon_runs_inside() -> Result<()> {
    let mut lab = Lab::new()?;
    let a = lab.host("a")?;
    let mut daemon = Daemon::spawn("ip", a.command("ip").args(["-4", "-oneline", "address"]))?;
    daemon.wait_for_line(&a.ipv4().to_string(), Duration::from_secs(10))?;
    Ok(())
}

fn a_capture_holds_what_passed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lab = Lab::new()?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let capture = Capture::start(lab.router(), folder.path().join("router.pcap"))?;
    // 0x77656674 is `weft`, which ping repeats to fill the packet.
    a.run("ping", &["-c", "1", "-W", "5", "-p", "77656674", &b.ipv4().to_string()])?;
    let recording = capture.stop()?;
    let protocols = recording.protocols(&format!("ip.addr == {}", a.ipv4()))?;
    ensure!(protocols.get("ICMP") == Some(&2), "an echo and its answer, not {protocols:?}");
    ensure!(recording.occurrences("weftweft")? >= 2);
    ensure!(recording.occurrences("warpwarp")? == 0);
    Ok(())
}
