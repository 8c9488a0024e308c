//! A node on the mesh, on a Raspberry Pi Pico with a W5500 Ethernet chip.

#![no_std]
#![no_main]

use embassy_net::{Config, StackResources, tcp::TcpSocket};
use embassy_net_wiznet::{self as wiznet, chip::W5500};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1};
use embassy_rp::{bind_interrupts, dma, spi::Spi};
use weft_rp2040::{Region, Rosc, mac_address, network_seed};
use {defmt_rtt as _, panic_probe as _, static_cell::ConstStaticCell};

bind_interrupts!(struct Irqs { DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>; });

#[embassy_executor::main]
async fn main(_spawner: embassy_executor::Spawner) {
    let p = embassy_rp::init(Default::default());
    let mut flash = Region::new(p.FLASH);
    let id = flash.unique_id().unwrap();

    // The board's own network: a W5500 on SPI0, with an address by DHCP.
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Irqs, Default::default());
    let (select, reset) = (Output::new(p.PIN_17, Level::High), Output::new(p.PIN_20, Level::High));
    let Ok(bus) = embedded_hal_bus::spi::ExclusiveDevice::new(spi, select, embassy_time::Delay);
    static WIRE: ConstStaticCell<wiznet::State<4, 4>> = ConstStaticCell::new(wiznet::State::new());
    let (mac, irq) = (mac_address(&id), Input::new(p.PIN_21, Pull::Up));
    let (driver, ethernet) = wiznet::new::<4, 4, W5500, _, _, _>(mac, WIRE.take(), bus, irq, reset).await.unwrap();
    static LAN: ConstStaticCell<StackResources<4>> = ConstStaticCell::new(StackResources::new());
    let (lan, mut lan_task) = embassy_net::new(driver, Config::dhcpv4(Default::default()), LAN.take(), network_seed());

    // The mesh: a second network over the first.
    static NODE: ConstStaticCell<weft_embassy::State<16>> = ConstStaticCell::new(weft_embassy::State::new());
    let (node, device, weft) = weft_embassy::new(NODE.take(), Default::default(), lan, flash, Rosc::new(id));
    static MESH: ConstStaticCell<StackResources<4>> = ConstStaticCell::new(StackResources::new());
    let (mesh, mut mesh_task) = embassy_net::new(device, Config::default(), MESH.take(), network_seed());

    // Ordinary sockets, on the mesh.
    let doorbell = async {
        defmt::info!("on the mesh as {}", node.wait_joined().await);
        let (mut receive, mut transmit) = ([0; 256], [0; 256]);
        loop {
            let mut socket = TcpSocket::new(mesh, &mut receive, &mut transmit);
            let _ = socket.accept(7).await;
            let _ = socket.write(b"nobody is at the door\r\n").await;
            let _ = socket.flush().await;
        }
    };
    embassy_futures::join::join5(ethernet.run(), lan_task.run(), mesh_task.run(), weft.run(mesh), doorbell).await;
}
