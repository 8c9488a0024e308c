//! What the two QEMU boards get from the host through semihosting in place of hardware: a flash chip kept in a file, a
//! unique id, noise, a thermometer, and an exit code.

#![no_std]

mod arguments;
mod entropy;
mod flash;
mod thermometer;

use core::net::Ipv4Addr;

use embassy_net::{ConfigV4, Ipv4Cidr, StaticConfigV4};

pub use arguments::{Arguments, BadArgument, Word};
pub use entropy::HostEntropy;
pub use flash::{FlashError, HostFlash};
pub use thermometer::Thermometer;

/// Exit codes of a board.
pub mod exit {
    /// An argument or the flash file cannot be used; the log tells why.
    pub const ARGUMENT: i32 = 64;
    /// The power cut that `cut=` asked for.
    pub const CUT: i32 = 77;
    /// The firmware panicked; the log has the message.
    pub const PANIC: i32 = 101;
    /// The processor trapped: a bad address, an illegal instruction.
    pub const FAULT: i32 = 102;
}

/// Ends the virtual machine, and QEMU with it.
pub fn exit(code: i32) -> ! {
    semihosting::process::exit(code)
}

/// What the host has for a board.
#[derive(Debug)]
pub struct Host {
    /// The flash region.
    pub flash: HostFlash,
    /// The unique id and the noise.
    pub entropy: HostEntropy,
    /// How the outer network gives an address.
    pub network: ConfigV4,
    /// Differs from boot to boot, as the clocks and the noise of a real board do.
    pub network_seed: u64,
}

impl Host {
    /// Reads the arguments and opens the flash. Where that fails, tells why in the log and ends the machine.
    #[inline(never)]
    pub fn open() -> Self {
        let arguments = Arguments::read().unwrap_or_else(|bad| {
            defmt::error!("a bad argument: {}", bad);
            exit(exit::ARGUMENT)
        });
        let flash = HostFlash::open(&arguments.flash, arguments.cut).unwrap_or_else(|_| {
            defmt::error!("the flash file {=str} cannot be opened, or is longer than 64 KiB", &arguments.flash);
            exit(exit::ARGUMENT)
        });
        let entropy = HostEntropy::new(arguments.id, arguments.entropy);
        let network_seed = entropy.network_seed();
        Self { flash, entropy, network: network(&arguments), network_seed }
    }
}

fn network(arguments: &Arguments) -> ConfigV4 {
    let Some((address, length)) = arguments.address else { return ConfigV4::Dhcp(Default::default()) };
    let mut config = StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Addr::from(address), length),
        gateway: arguments.gateway.map(Ipv4Addr::from),
        dns_servers: Default::default(),
    };
    config.dns_servers.extend(arguments.dns.map(Ipv4Addr::from));
    ConfigV4::Static(config)
}
