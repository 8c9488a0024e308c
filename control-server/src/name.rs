//! The names of nodes, users and tags: what they may look like, and how a hostname becomes one.

/// The longest name of a node: one DNS label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// What a node is called whose hostname has no letter or digit.
const NAMELESS: &str = "node";

/// The DNS label that is nearest to a hostname: lower case, letters, digits and inner hyphens.
///
/// The first label of a fully qualified name counts, apostrophes vanish ("Anna's laptop" is `annas-laptop`), and
/// everything else becomes a hyphen.
pub fn label_of_hostname(hostname: &str) -> String {
    let mut label = String::new();
    for character in hostname.split('.').next().unwrap_or_default().chars() {
        match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => label.push(letter),
            '\'' | '\u{2019}' => {}
            _ if label.ends_with('-') || label.is_empty() => {}
            _ => label.push('-'),
        }
    }
    label.truncate(MAX_LABEL);
    let label = label.trim_matches('-');
    if label.is_empty() { NAMELESS.to_owned() } else { label.to_owned() }
}

/// `base` with a number that tells it from others of that name: `nas-1`. The base gives way where both are too long.
pub fn numbered(base: &str, number: u32) -> String {
    let suffix = format!("-{number}");
    let room = MAX_LABEL - suffix.len();
    let base = base.get(..room).unwrap_or(base).trim_end_matches('-');
    format!("{base}{suffix}")
}

/// Whether `name` is a DNS label as nodes have them.
pub fn is_label(name: &str) -> bool {
    (1..=MAX_LABEL).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether `name` can be a user's: letters, digits and `._@+-`, such as `anna` or `anna@example.com`.
pub fn is_user_name(name: &str) -> bool {
    (1..=MAX_LABEL).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Whether `tag` is a tag: `tag:` and a word that begins with a letter.
pub fn is_tag(tag: &str) -> bool {
    tag.strip_prefix("tag:")
        .is_some_and(|word| is_label(word) && word.starts_with(|first: char| first.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_become_dns_labels() {
        for (hostname, label) in [
            ("nas", "nas"),
            ("NAS", "nas"),
            ("nas.local", "nas"),
            ("Anna's MacBook Pro", "annas-macbook-pro"),
            ("my_host__2", "my-host-2"),
            ("-x-", "x"),
            ("", "node"),
            ("..", "node"),
            ("\u{65e5}\u{672c}", "node"),
            ("caf\u{e9}", "caf"),
        ] {
            assert_eq!(label_of_hostname(hostname), label, "{hostname:?}");
            assert!(is_label(label));
        }
        assert_eq!(label_of_hostname(&"a".repeat(80)).len(), MAX_LABEL);
    }

    #[test]
    fn a_number_fits_into_the_label_of_a_long_name() {
        assert_eq!(numbered("nas", 1), "nas-1");
        let long = numbered(&"a".repeat(MAX_LABEL), 1234);
        assert!(is_label(&long) && long.ends_with("a-1234"), "{long}");
    }

    #[test]
    fn names_that_would_break_dns_or_a_shell_are_refused() {
        for name in ["", "Nas", "nas.x", "-nas", "nas-", "n s", "n\u{e9}", &"a".repeat(64)] {
            assert!(!is_label(name), "{name:?}");
        }
        for tag in ["tag:", "tag:1", "server", "tag:Web", "tag:a b"] {
            assert!(!is_tag(tag), "{tag:?}");
        }
        assert!(is_tag("tag:web-1"));
        assert!(is_user_name("anna@example.com") && !is_user_name("-a") && !is_user_name("a b"));
    }
}
