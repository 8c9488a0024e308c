//! Outcomes as a person reads them.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use super::{KeyView, NodeView, Outcome, UserView};

/// A time in seconds since 1970 as RFC 3339 says.
pub fn time(secs: u64) -> String {
    /// The last second of the year 9999, beyond which the format has no years.
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(secs.min(LAST))).to_string()
}

/// The outcome as text, with a line break at its end.
pub fn render(outcome: &Outcome) -> String {
    match outcome {
        Outcome::User(user) => format!("user {} created\n", user.name),
        Outcome::Users(users) => columns(&["ID", "NAME", "CREATED"], users.iter().map(user_row)),
        Outcome::KeyCreated(created) => format!("{}\n", created.key),
        Outcome::Keys(keys) => {
            columns(&["ID", "USER", "STATE", "USES", "KIND", "TAGS", "EXPIRES"], keys.iter().map(key_row))
        }
        Outcome::Nodes(nodes) => {
            columns(&["ID", "NAME", "USER", "ADDRESS", "OS", "STATUS", "KEY EXPIRES"], nodes.iter().map(node_row))
        }
        Outcome::Node(node) => {
            columns(&["ID", "NAME", "USER", "ADDRESS", "OS", "STATUS", "KEY EXPIRES"], [node_row(node)])
        }
        Outcome::ServerKeys(keys) => {
            let mut text = format!("current key   {}\n", keys.current_key);
            for (label, key) in [("next key     ", &keys.next_key), ("previous key ", &keys.previous_key)] {
                if let Some(key) = key {
                    let _ = writeln!(text, "{label} {key}");
                }
            }
            text
        }
        Outcome::BackupWritten { file } => format!("backup written to {}\n", file.display()),
        Outcome::Revoked { revoked } => format!("join key {revoked} revoked\n"),
    }
}

fn user_row(user: &UserView) -> Vec<String> {
    vec![user.id.to_string(), user.name.clone(), user.created.clone()]
}

fn key_row(key: &KeyView) -> Vec<String> {
    let kind = match (key.reusable, key.ephemeral) {
        (false, false) => "one use",
        (true, false) => "reusable",
        (false, true) => "one use, ephemeral",
        (true, true) => "reusable, ephemeral",
    };
    vec![
        key.id.to_string(),
        key.user.clone(),
        key.state.clone(),
        key.uses.to_string(),
        kind.to_owned(),
        or_dash(key.tags.join(",")),
        key.expires.clone().unwrap_or_else(|| "never".to_owned()),
    ]
}

fn node_row(node: &NodeView) -> Vec<String> {
    let status = match (node.online, node.expired) {
        (_, true) => "expired".to_owned(),
        (true, _) => "online".to_owned(),
        (false, _) => format!("offline, last seen {}", node.last_seen),
    };
    vec![
        node.id.to_string(),
        node.name.clone(),
        if node.tags.is_empty() { node.user.clone() } else { node.tags.join(",") },
        node.addresses.first().cloned().unwrap_or_default(),
        or_dash(node.os.clone()),
        status,
        node.key_expiry.clone().unwrap_or_else(|| "never".to_owned()),
    ]
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Rows under a header, in columns as wide as their widest entry.
fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let width = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
