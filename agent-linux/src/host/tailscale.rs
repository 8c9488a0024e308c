//! Whether tailscaled runs on this machine, and what its owner has to know then.
//!
//! Weft changes nothing of tailscaled's: neither its device, nor its routing rules, nor its firewall chains.

use super::HostView;

/// tailscaled's network device.
pub const DEVICE: &str = "tailscale0";

/// Where tailscaled listens for its own command line.
pub const SOCKET: &str = "/run/tailscale/tailscaled.sock";

/// The priorities of tailscaled's routing rules.
const RULES: [u32; 4] = [5_210, 5_230, 5_250, 5_270];

/// What to tell where tailscaled runs; `None` where it does not.
pub fn sentence(host: &HostView) -> Option<&'static str> {
    let rules = RULES.iter().filter(|rule| host.rules.contains(rule)).count();
    let runs = host.tailscaled_answers || host.interface(DEVICE).is_some() || rules >= 2;
    runs.then_some(
        "tailscaled runs on this machine and uses the same addresses. Weft leaves its device, routes and firewall as \
         they are; so while it is up, tailscaled's routes win, and its rule `ts-input -s 100.64.0.0/10 ! -i tailscale0 \
         -j DROP` may drop what weft's peers send. Stop it with `tailscale down` to use both one after the other.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Interface;

    #[test]
    fn it_is_known_by_its_device_its_rules_or_its_socket() {
        let device = Interface { name: DEVICE.into(), ..Interface::default() };
        let by_device = HostView { interfaces: vec![device], ..HostView::default() };
        let by_rules = HostView { rules: vec![0, 5_210, 5_230, 5_250, 5_270, 32_766], ..HostView::default() };
        let by_socket = HostView { tailscaled_answers: true, ..HostView::default() };
        for host in [by_device, by_rules, by_socket] {
            assert!(sentence(&host).is_some_and(|text| text.starts_with("tailscaled runs on this machine")));
        }
        let other = HostView { rules: vec![0, 5_210, 32_766, 32_767], ..HostView::default() };
        assert_eq!(sentence(&other), None);
    }
}
