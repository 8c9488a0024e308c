//! `weft status` as text: one line a node, in the columns and words of `tailscale status`.
//!
//! A pure function of the status document and the time.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use crate::status::{BackendState, NodeStatus, Status};

/// Renders `status`. `now` serves "last seen".
pub(crate) fn render(status: &Status, now: SystemTime) -> String {
    let mut text = String::new();
    match status.backend_state {
        BackendState::NeedsLogin => text.push_str("Logged out. `weft up --join KEY` joins a mesh.\n"),
        BackendState::Stopped => text.push_str("Weft is stopped. `weft up` resumes.\n"),
        BackendState::Starting => text.push_str("Weft is starting: it has no answer from the server so far.\n"),
        BackendState::Running => {}
    }
    // While it is stopped, what it last knew of its peers is no news.
    if matches!(status.backend_state, BackendState::Running | BackendState::Starting) {
        let mut peers: Vec<&NodeStatus> = status.peer.values().collect();
        peers.sort_by(|a, b| a.host_name.cmp(&b.host_name).then_with(|| a.id.cmp(&b.id)));
        let rows = status
            .this
            .iter()
            .map(|node| columns(status, node, if node.expired { "expired; join again" } else { "-" }.into()))
            .chain(peers.into_iter().map(|node| columns(status, node, state(node, now))));
        align(&rows.collect::<Vec<_>>(), &mut text);
    }
    if !status.health.is_empty() {
        text.push_str("\n# Health check:\n");
        for sentence in &status.health {
            let _ = writeln!(text, "#     - {sentence}");
        }
    }
    text
}

/// Address, name, owner, operating system, state.
fn columns(status: &Status, node: &NodeStatus, state: String) -> [String; 5] {
    let address = node.tailscale_ips.first().map(ToString::to_string).unwrap_or_default();
    let owner = match status.user.get(&node.user_id.to_string()) {
        _ if !node.tags.is_empty() => "tagged-devices".into(),
        Some(user) => format!("{}@", user.login_name.split('@').next().unwrap_or_default()),
        None => "-".into(),
    };
    [address, node.host_name.clone(), owner, node.os.clone(), state]
}

/// The last column: whether packets go, by which way, and how many bytes went.
fn state(node: &NodeStatus, now: SystemTime) -> String {
    let traffic = node.tx_bytes != 0 || node.rx_bytes != 0;
    let offline = if node.online {
        None
    } else {
        Some(format!("offline{}", last_seen(&node.last_seen, now).unwrap_or_default()))
    };
    let mut text = if node.expired {
        "expired; the node must join again".into()
    } else if node.active {
        let way = if node.cur_addr.is_empty() { "connecting".into() } else { format!("direct {}", node.cur_addr) };
        format!("active; {way}{}", if node.online { "" } else { "; offline" })
    } else if traffic {
        offline.map_or_else(|| "idle".into(), |offline| format!("idle; {offline}"))
    } else {
        offline.unwrap_or_else(|| "-".into())
    };
    if traffic {
        let _ = write!(text, ", tx {} rx {}", node.tx_bytes, node.rx_bytes);
    }
    text
}

/// `, last seen 3m ago`; `None` where the time is unknown.
fn last_seen(text: &str, now: SystemTime) -> Option<String> {
    let seen = humantime::parse_rfc3339(text).ok()?;
    let ago = now.duration_since(seen).unwrap_or_default();
    Some(format!(", last seen {} ago", coarse(ago)))
}

/// One unit is enough for a person.
fn coarse(ago: Duration) -> String {
    match ago.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3_600 => format!("{}m", secs / 60),
        secs @ 3_600..172_800 => format!("{}h", secs / 3_600),
        secs => format!("{}d", secs / 86_400),
    }
}

fn align(rows: &[[String; 5]], text: &mut String) {
    let mut widths = [15, 12, 12, 7, 0];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::UserProfile;

    fn node(name: &str, address: &str) -> NodeStatus {
        NodeStatus {
            host_name: name.into(),
            os: "linux".into(),
            user_id: 1,
            tailscale_ips: vec![address.parse().unwrap()],
            online: true,
            ..NodeStatus::default()
        }
    }

    fn mesh(peers: Vec<NodeStatus>) -> Status {
        Status {
            backend_state: BackendState::Running,
            this: Some(node("laptop", "100.64.0.1")),
            peer: peers.into_iter().map(|peer| (format!("nodekey:{}", peer.host_name), peer)).collect(),
            user: [("1".into(), UserProfile { id: 1, login_name: "alice".into(), display_name: "alice".into() })]
                .into(),
            ..Status::default()
        }
    }

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-23T20:00:00Z").unwrap()
    }

    #[test]
    fn a_running_mesh_reads_like_tailscale_status() {
        let status = mesh(vec![
            NodeStatus { tags: vec!["tag:sensor".into()], ..node("pi", "100.64.0.3") },
            NodeStatus {
                active: true,
                cur_addr: "10.0.1.2:41641".into(),
                tx_bytes: 1_476,
                rx_bytes: 1_372,
                ..node("nas", "100.64.0.2")
            },
            NodeStatus { online: false, last_seen: "2026-11-23T19:57:00Z".into(), ..node("old", "100.64.0.4") },
            NodeStatus { tx_bytes: 10, rx_bytes: 20, ..node("quiet", "100.64.0.5") },
            NodeStatus { online: false, tx_bytes: 1, ..node("zed", "100.64.0.6") },
        ]);
        let expected = "\
100.64.0.1       laptop        alice@          linux    -
100.64.0.2       nas           alice@          linux    active; direct 10.0.1.2:41641, tx 1476 rx 1372
100.64.0.4       old           alice@          linux    offline, last seen 3m ago
100.64.0.3       pi            tagged-devices  linux    -
100.64.0.5       quiet         alice@          linux    idle, tx 10 rx 20
100.64.0.6       zed           alice@          linux    idle; offline, tx 1 rx 0
";
        assert_eq!(render(&status, now()), expected);
    }

    #[test]
    fn a_node_whose_own_key_expired_shows_it() {
        let mut status = mesh(Vec::new());
        status.this.as_mut().unwrap().expired = true;
        assert!(render(&status, now()).ends_with("linux    expired; join again\n"));
    }

    #[test]
    fn a_stopped_node_tells_nothing_of_its_peers() {
        let active = NodeStatus { active: true, tx_bytes: 148, ..node("nas", "100.64.0.2") };
        let status = Status { backend_state: BackendState::Stopped, ..mesh(vec![active]) };
        assert_eq!(render(&status, now()), "Weft is stopped. `weft up` resumes.\n");
    }

    #[test]
    fn health_stands_under_the_table() {
        let mut status = mesh(Vec::new());
        status.health.push("The disk is full.".into());
        assert!(render(&status, now()).ends_with("-\n\n# Health check:\n#     - The disk is full.\n"));
    }

    #[test]
    fn who_is_in_no_mesh_is_told_what_to_do() {
        assert_eq!(render(&Status::default(), now()), "Logged out. `weft up --join KEY` joins a mesh.\n");
        let starting = Status { backend_state: BackendState::Starting, ..mesh(Vec::new()) };
        assert!(
            render(&starting, now())
                .starts_with("Weft is starting: it has no answer from the server so far.\n100.64.0.1 ")
        );
    }

    #[test]
    fn last_seen_is_told_in_one_unit() {
        for (secs, text) in [(5, "5s"), (119, "1m"), (7_300, "2h"), (200_000, "2d")] {
            assert_eq!(coarse(Duration::from_secs(secs)), text);
        }
    }
}
