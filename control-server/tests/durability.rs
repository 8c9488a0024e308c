//! What survives: restarts, kills, full disks, backups, new keys.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command as Process, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use support::{Machine, TestServer, Told, eventually};
use weft_control::{DataLock, admin::Command, admin::Outcome, store::backup};
use weft_core::{control::ErrorCode, keys::ServerKey};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-control");

/// A process of the server, killed when dropped.
struct Serving(Child);

impl Serving {
    /// Starts `command serve` and waits until it serves. Port 0: nobody connects.
    fn start(mut command: Process, data: &Path) -> Self {
        command.arg("--data").arg(data).args(["serve", "--listen", "127.0.0.1:0", "--url", "http://127.0.0.1:1"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("serving ")));
        assert!(first.is_some(), "the server starts");
        thread::spawn(move || log.for_each(drop));
        Self(child)
    }

    fn kill(&mut self) {
        // SIGKILL: nothing is said goodbye to and nothing closed.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command line; what it printed, or its error.
fn run(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Process::new(PROGRAM).arg("--data").arg(data).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.success(), err.is_empty(), "an error has a sentence and an exit code: {err}");
    if output.status.success() { Ok(out) } else { Err(err) }
}

#[test]
fn a_killed_server_has_every_change_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut server = Serving::start(Process::new(PROGRAM), data);
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for worker in 0..4 {
                let done = &done;
                scope.spawn(move || {
                    for number in 0.. {
                        let name = format!("u{round}-{worker}-{number}");
                        // Without the server, the command line would work on the store itself.
                        if !weft_control::admin::socket::path(data).exists() {
                            return;
                        }
                        let asked = ask(data, &Command::UserCreate { name: name.clone() });
                        if asked.is_err() {
                            return;
                        }
                        done.lock().unwrap().push(name);
                    }
                });
            }
            while done.lock().unwrap().len() < 40 {
                thread::sleep(Duration::from_millis(1));
            }
            server.kill();
        });
        acknowledged.extend(done.into_inner().unwrap());
    }
    let listed = run(data, &["user", "list"]).unwrap();
    for name in &acknowledged {
        assert!(listed.contains(&format!("{name} ")), "{name} was acknowledged and is lost");
    }
    assert!(acknowledged.len() >= 120);
}

/// One command over the socket, on this thread.
fn ask(data: &Path, command: &Command) -> std::io::Result<String> {
    use std::io::Write;

    let mut stream = std::os::unix::net::UnixStream::connect(weft_control::admin::socket::path(data))?;
    stream.write_all(format!("{}\n", serde_json::to_string(command).unwrap()).as_bytes())?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

#[test]
fn a_second_server_and_a_restore_are_refused_while_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut server = Serving::start(Process::new(PROGRAM), data);
    let second = run(data, &["serve", "--listen", "127.0.0.1:0", "--url", "http://127.0.0.1:1"]).unwrap_err();
    assert!(second.contains("another weft-control already works in"), "{second}");
    let file = data.join("b");
    run(data, &["backup", file.to_str().unwrap()]).unwrap();
    let restore = run(data, &["restore", file.to_str().unwrap()]).unwrap_err();
    assert!(restore.contains("another weft-control already works in"), "{restore}");
    run(data, &["user", "create", "ada"]).unwrap();
    server.kill();
    assert!(run(data, &["user", "list"]).unwrap().contains("ada"), "the dead socket is no hindrance");
}

#[test]
fn wrong_commands_get_a_sentence_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    for (arguments, sentence) in [
        (&["key", "create", "--user", "nobody"][..], "start it once with `serve --url"),
        (&["key", "revoke", "7"], "no join key with the id 7"),
        (&["node", "remove", "nas"], "no node `nas`"),
        (&["node", "rename", "nas", "NAS!"], "cannot be a node's name"),
        (&["user", "create", "a b"], "cannot be a user's name"),
        (&["rotate-key", "--switch"], "no next key is announced"),
        (&["restore", "/nonexistent"], "there is no such file"),
        (&["backup", "/nonexistent/b"], "cannot be written"),
        (&["key", "create", "--user", "x", "--expires", "soon"], "is not a time span"),
    ] {
        let error = run(data, arguments).unwrap_err();
        assert!(error.contains(sentence), "{arguments:?}: {error}");
    }
    run(data, &["user", "create", "ada"]).unwrap();
    assert!(run(data, &["user", "create", "ada"]).unwrap_err().contains("there is a user `ada` already"));
    let missing = run(&data.join("x"), &["user", "list"]).unwrap_err();
    assert!(missing.contains("there is no data directory"), "{missing}");
    let json: serde_json::Value = serde_json::from_str(&run(data, &["user", "list", "--json"]).unwrap()).unwrap();
    assert_eq!(json[0]["name"], "ada");
}

#[test]
fn files_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _server = Serving::start(Process::new(PROGRAM), &data);
    run(&data, &["user", "create", "ada"]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_restarted_server_has_its_nodes_and_they_resume() {
    let mut server = TestServer::start().await;
    let mut node = server.node("pi").await.synced().await;
    let _other = server.node("nas").await;
    node.sees(&["nas"]).await;
    node.until("a revision", |node| node.log.last() == Some(&Told::UpTo)).await;
    let kept = node.kept();
    server.stop().await;
    assert_eq!(node.ended().await.code(), ErrorCode::ShuttingDown);
    server.run().await;
    let mut back = kept.come_back(&server).await.unwrap();
    assert_eq!(back.me(), node.me());
    back.until("a revision", |back| back.netmap.revision.is_some()).await;
    assert_eq!(back.netmap.snapshots, 0);
    let nodes = server.nodes().await;
    assert_eq!(nodes.iter().filter(|node| node.online).count(), 1);
}

#[tokio::test]
async fn a_restored_backup_is_another_epoch_and_nodes_get_a_snapshot() {
    let mut server = TestServer::start().await;
    let node = server.node("pi").await.synced().await;
    let file = server.data().join("backup");
    server.command(Command::Backup { file: file.clone() }).await.unwrap();
    let again = server.command(Command::Backup { file: file.clone() }).await.unwrap_err();
    assert!(again.contains("there is such a file already"), "a backup is not overwritten: {again}");

    let later = server.node("later").await.synced().await;
    server.rename("pi", "raspberry").await.unwrap();
    let (kept, later) = (node.kept(), later.kept());
    server.stop().await;
    let garbage = server.data().join("garbage");
    fs::write(&garbage, "no database").unwrap();
    {
        let lock = DataLock::take(server.data()).unwrap();
        let refused = backup::restore(&lock, &garbage).await.unwrap_err();
        assert!(refused.to_string().contains("not a backup of weft-control"), "{refused}");
        let former = backup::restore(&lock, &file).await.unwrap().unwrap();
        // What was replaced can itself be put back.
        let (again, spare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copy = spare.path().join("copy");
        fs::copy(former, &copy).unwrap();
        let empty = DataLock::take(again.path()).unwrap();
        assert_eq!(backup::restore(&empty, &copy).await.unwrap(), None);
    }
    server.run().await;
    let back = kept.come_back(&server).await.unwrap().synced().await;
    assert_eq!((back.me().name.as_str(), back.netmap.snapshots), ("pi", 1));
    assert_ne!(back.netmap.revision.unwrap().epoch, kept.resume.unwrap().epoch);
    assert_eq!(later.come_back(&server).await.err().unwrap().code(), ErrorCode::UnknownMachine);
    assert!(server.data().join("weft.db.before-restore").exists());
}

#[tokio::test]
async fn a_rotated_key_is_announced_followed_and_the_old_one_retired() {
    let server = TestServer::start().await;
    let key = server.reusable_key().await;
    let mut node = Machine::new("pi").join(&server, &key).await.unwrap();
    let announced = |outcome: Outcome| match outcome {
        Outcome::ServerKeys(keys) => keys.next_key.unwrap().parse::<ServerKey>().unwrap(),
        other => panic!("{other:?}"),
    };
    let next = announced(server.command(Command::RotateAnnounce).await.unwrap());
    let told = |told: &Told| matches!(told, Told::ServerNext { key: Some(key), .. } if *key == next);
    node.until("the next key", |node| node.log.iter().any(told)).await;
    let late = Machine::new("late").join(&server, &key).await;
    late.unwrap().until("the next key", |node| node.log.iter().any(told)).await;

    server.command(Command::RotateSwitch).await.unwrap();
    let new_key = server.reusable_key().await;
    assert_eq!(*new_key.server_key(), next);
    Machine::new("new").join(&server, &new_key).await.unwrap();
    Machine::new("old").join(&server, &key).await.expect("the old key is still answered to");
    server.command(Command::RotateRetire).await.unwrap();
    assert!(Machine::new("too-late").join(&server, &key).await.is_err());
    node.kept().come_back(&server).await.expect("who has followed is still a member");
}

#[test]
fn a_full_disk_is_said_loses_nothing_and_the_server_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mount = format!("mount -t tmpfs -o size=2m,mode=0700 tmpfs {} && exec \"$@\"", data.display());
    // Whoever is not root may mount only in a user namespace.
    let root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let isolated = |arguments: &[&str]| {
        let mut command = Process::new("unshare");
        command.args(namespaces).args(["sh", "-c", &mount, "sh"]).args(arguments);
        command
    };
    let possible = isolated(&["true"]).status().is_ok_and(|status| status.success());
    assert!(possible, "this test needs a mount namespace; `cargo xtask test` makes one, or run it as root");
    let server = Serving::start(isolated(&[PROGRAM]), data);
    let inside = Path::new("/proc").join(server.0.id().to_string()).join("root").join(data.strip_prefix("/").unwrap());
    let create = |name: String| ask(&inside, &Command::UserCreate { name }).unwrap();
    assert!(create("before".to_owned()).contains("done"));
    let filler = inside.join("filler");
    let _ = fs::write(&filler, vec![0; 4 << 20]);

    let mut acknowledged = vec!["before".to_owned()];
    let refusal = (0..100_000).map(|number| format!("full-{number}")).find_map(|name| {
        let answer = create(name.clone());
        if answer.contains("refused") {
            return Some(answer);
        }
        acknowledged.push(name);
        None
    });
    let refusal = refusal.expect("a full disk is noticed");
    assert!(refusal.contains("disk is full"), "{refusal}");

    fs::remove_file(&filler).unwrap();
    assert!(create("after".to_owned()).contains("done"));
    acknowledged.push("after".to_owned());
    let listed = ask(&inside, &Command::UserList).unwrap();
    for name in acknowledged {
        assert!(listed.contains(&format!("\"{name}\"")), "{name} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn an_administrators_garbage_is_answered_and_harms_nobody() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

    let server = TestServer::start().await;
    let stream = tokio::net::UnixStream::connect(weft_control::admin::socket::path(server.data())).await.unwrap();
    let mut stream = tokio::io::BufReader::new(stream);
    let mut line = String::new();
    stream.write_all(b"{\"user-destroy\": 1}\n").await.unwrap();
    stream.read_line(&mut line).await.unwrap();
    assert!(line.contains("does not understand"), "{line}");
    eventually("the server answers", async || server.command(Command::UserList).await.is_ok()).await;
}
