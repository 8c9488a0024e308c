//! Join keys that were badly copied.

use weft_core::control::{JoinKey, JoinKeyError, JoinSecret, ServerAddress};

use crate::pair::server_key;

fn join_key() -> JoinKey {
    let addresses: [ServerAddress; 2] =
        ["http://192.0.2.1:8080".parse().unwrap(), "https://weft.test".parse().unwrap()];
    JoinKey::new(server_key(), JoinSecret::from_bytes([9; 16]), &addresses).unwrap()
}

fn text() -> String {
    join_key().to_text().as_str().to_owned()
}

#[test]
fn a_join_key_survives_capitals_and_line_breaks() {
    let text = text();
    assert_eq!(text.parse(), Ok(join_key()));
    assert_eq!(text.to_uppercase().parse(), Ok(join_key()));
    assert_eq!(format!(" {}\r\n  {}\n", &text[..60], &text[60..]).parse(), Ok(join_key()));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()), "a double click selects it and no shell changes it");
}

#[test]
fn a_join_key_cut_anywhere_is_called_truncated() {
    let text = text();
    for len in 4..text.len() {
        assert_eq!(text[..len].parse::<JoinKey>(), Err(JoinKeyError::Truncated), "{len} characters");
    }
    for len in 0..4 {
        assert_eq!(text[..len].parse::<JoinKey>(), Err(JoinKeyError::NotAJoinKey), "{len} characters");
    }
}

#[test]
fn a_join_key_with_any_other_character_anywhere_is_called_altered() {
    let text = text();
    for at in 5..text.len() {
        for other in ('a'..='z').chain('0'..='9').chain("-_=é".chars()) {
            let altered = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            if altered != text {
                assert_eq!(altered.parse::<JoinKey>(), Err(JoinKeyError::Altered), "{other} at {at}");
            }
        }
    }
}

#[test]
fn characters_swapped_or_added_make_it_altered() {
    let text = text();
    for at in 5..text.len() - 1 {
        let (head, tail) = text.split_at(at);
        let mut rest: Vec<char> = tail.chars().collect();
        rest.swap(0, 1);
        let swapped = head.to_owned() + &rest.iter().collect::<String>();
        if swapped != text {
            assert_eq!(swapped.parse::<JoinKey>(), Err(JoinKeyError::Altered), "at {at}");
        }
    }
    for extra in ["a", "aa", "2", "."] {
        assert_eq!(format!("{text}{extra}").parse::<JoinKey>(), Err(JoinKeyError::Altered));
    }
}

#[test]
fn a_foreign_key_and_one_of_a_newer_kind_are_told_apart() {
    for foreign in ["", "hskey-auth-abc", "tskey-auth-kx", "nodekey:00", "weftx", "wireguard"] {
        assert_eq!(foreign.parse::<JoinKey>(), Err(JoinKeyError::NotAJoinKey), "{foreign}");
    }
    assert_eq!(format!("weft2{}", &text()[5..]).parse::<JoinKey>(), Err(JoinKeyError::NewerVersion));
}

#[test]
fn a_join_key_needs_an_address_and_takes_no_more_than_fit() {
    let secret = || JoinSecret::from_bytes([9; 16]);
    assert_eq!(JoinKey::new(server_key(), secret(), []), Err(JoinKeyError::Addresses));
    let long: ServerAddress = format!("http://{}.test", "a".repeat(110)).parse().unwrap();
    assert!(JoinKey::new(server_key(), secret(), [&long]).is_ok());
    assert_eq!(JoinKey::new(server_key(), secret(), [&long, &long]), Err(JoinKeyError::Addresses));
}

#[test]
fn the_secret_never_prints() {
    let debug = format!("{:?} {:?} {:?}", join_key(), join_key().secret(), join_key().to_text());
    assert!(!debug.contains("09, 9") && !debug.contains("9, 9") && !debug.contains("weft1"), "{debug}");
}
