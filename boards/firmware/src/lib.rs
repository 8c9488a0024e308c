//! The example firmware of all boards: a sensor that serves its readings and its mesh status by HTTP on its mesh
//! address, pushes them by UDP to a peer of choice, and answers ping.
//!
//! A board gives its network driver, flash, noise and thermometer as [`Hardware`] and calls [`run`]. Nothing here knows a
//! chip. Without the feature `weft` the same sensor serves on the board's own network.

#![no_std]

mod apart;
mod application;
mod fair;
mod http;
#[cfg(feature = "weft")]
mod mesh;
#[cfg(feature = "weft")]
mod network;
mod push;
#[cfg(feature = "selftest")]
mod selftest;
mod sensor;
mod settings;
pub mod stack;

use core::pin::pin;

use defmt::{info, unwrap};
use embassy_executor::Spawner;
#[cfg(not(feature = "weft"))]
use embassy_futures::join::join;
#[cfg(feature = "weft")]
use embassy_futures::join::join4;
use embassy_net::{ConfigV4, Stack, StackResources};
use embassy_net_driver::Driver;
use static_cell::ConstStaticCell;
#[cfg(feature = "weft")]
use weft_embassy::State;

pub use apart::apart;
use application::Application;
pub use fair::Fair;
#[cfg(feature = "weft")]
use network::Network;
pub use sensor::{Degrees, Latest, Reading, Sensor};
pub use settings::{PUSH_TO, Settings};
#[cfg(feature = "weft")]
pub use weft_embassy::Entropy;

/// Connections that the web server serves at the same time.
const HTTP_SOCKETS: usize = 2;
/// Peers that the node has slots for.
#[cfg(feature = "weft")]
const PEERS: usize = 16;
/// Sockets of the board's own network: DHCP, DNS, and the node's UDP and TCP.
#[cfg(feature = "weft")]
const OUTER_SOCKETS: usize = 4;
/// Sockets of the board's own network: DHCP, DNS, and the application's.
#[cfg(not(feature = "weft"))]
const OUTER_SOCKETS: usize = 2 + APPLICATION_SOCKETS;
/// Sockets of the application: the web server's, and the pusher's.
const APPLICATION_SOCKETS: usize = HTTP_SOCKETS + 1;
/// Sockets of the mesh: DNS, which embassy-net always has, the application's, and the tests'.
#[cfg(feature = "selftest")]
const INNER_SOCKETS: usize = 1 + APPLICATION_SOCKETS + selftest::SOCKETS;
/// Sockets of the mesh: DNS, which embassy-net always has, and the application's.
#[cfg(all(feature = "weft", not(feature = "selftest")))]
const INNER_SOCKETS: usize = 1 + APPLICATION_SOCKETS;

/// What a board has.
#[derive(Debug)]
pub struct Hardware<D, F, E, S> {
    /// The Ethernet or Wi-Fi driver, with its link up or coming up.
    pub driver: D,
    /// How the board's own network gives an address.
    pub network: ConfigV4,
    /// For the port numbers and TCP sequence numbers of the board's own network; to differ from boot to boot.
    pub network_seed: u64,
    /// The flash region that is the node's alone.
    pub flash: F,
    /// The chip's unique id and its noise.
    pub entropy: E,
    /// The thermometer.
    pub sensor: S,
}

/// What runs a network.
#[cfg(feature = "weft")]
type NetRunner<D> = embassy_net::Runner<'static, Network<Fair<D>, weft_embassy::Device>>;
/// What runs a network.
#[cfg(not(feature = "weft"))]
type NetRunner<D> = embassy_net::Runner<'static, Fair<D>>;

/// Buffers of the web server, by socket.
struct HttpBuffers {
    rx: [u8; 512],
    tx: [u8; 1_024],
}

static LATEST: ConstStaticCell<Latest> = ConstStaticCell::new(Latest::new());

/// Runs the firmware for ever. To be called once.
#[cfg(feature = "weft")]
pub async fn run<D, F, E, S>(spawner: Spawner, hardware: Hardware<D, F, E, S>, settings: &'static Settings) -> !
where
    D: Driver,
    F: embedded_storage_async::nor_flash::NorFlash,
    E: Entropy,
    S: Sensor,
{
    let SetUp { outer, mut outer_runner, mut inner_runner, application, node_runner, sensor } =
        set_up(spawner, hardware, settings);
    let Application { stack: inner, latest, .. } = application;
    services(spawner, outer, application, settings);
    #[cfg(feature = "selftest")]
    selftest::start(spawner, application);
    // Pinned where they are made: a future that is passed on is copied over the stack, and its room stays there.
    let (outer, mesh) = (pin!(outer_runner.run()), pin!(inner_runner.run()));
    let (node, sensor) = (pin!(node_runner.run(inner)), pin!(latest.follow(sensor)));
    join4(apart(outer), apart(mesh), apart(node), sensor).await.0
}

/// What runs, once it was set up.
#[cfg(feature = "weft")]
struct SetUp<D: Driver, F, E, S> {
    outer: Stack<'static>,
    outer_runner: NetRunner<D>,
    inner_runner: NetRunner<D>,
    application: Application,
    node_runner: weft_embassy::Runner<'static, F, E>,
    sensor: S,
}

/// Makes the networks and the node. A call of its own, so that what it needs of the stack is given back before anything
/// runs.
#[cfg(feature = "weft")]
#[inline(never)]
fn set_up<D, F, E, S>(
    spawner: Spawner,
    hardware: Hardware<D, F, E, S>,
    settings: &'static Settings,
) -> SetUp<D, F, E, S>
where
    D: Driver,
    F: embedded_storage_async::nor_flash::NorFlash,
    E: Entropy,
    S: Sensor,
{
    static STATE: ConstStaticCell<State<PEERS>> = ConstStaticCell::new(State::new());

    let Hardware { driver, network, network_seed, flash, entropy, sensor } = hardware;
    let (outer, outer_runner) = outer_network(driver, network, network_seed);
    let config = weft_embassy::Config {
        join_key: Some(settings.join_key).filter(|key| !key.is_empty()),
        hostname: &settings.hostname,
        ..Default::default()
    };
    let (node, device, node_runner) = weft_embassy::new(STATE.take(), config, outer, flash, entropy);
    let (inner, inner_runner) = mesh_network(device, !network_seed);
    spawner.spawn(unwrap!(mesh_log(node)));
    let application = Application { stack: inner, latest: LATEST.take(), node };
    SetUp { outer, outer_runner, inner_runner, application, node_runner, sensor }
}

/// Runs the firmware for ever, without a mesh. To be called once.
#[cfg(not(feature = "weft"))]
pub async fn run<D, F, E, S>(spawner: Spawner, hardware: Hardware<D, F, E, S>, settings: &'static Settings) -> !
where
    D: Driver,
    S: Sensor,
{
    let Hardware { driver, network, network_seed, sensor, .. } = hardware;
    let (outer, mut outer_runner) = outer_network(driver, network, network_seed);
    let latest: &'static Latest = LATEST.take();
    services(spawner, outer, Application { stack: outer, latest }, settings);
    join(apart(pin!(outer_runner.run())), pin!(latest.follow(sensor))).await.0
}

/// The mesh as a network. A call of its own, for the sake of the stack.
#[cfg(feature = "weft")]
#[inline(never)]
fn mesh_network<D: Driver>(device: weft_embassy::Device, seed: u64) -> (Stack<'static>, NetRunner<D>) {
    static INNER: ConstStaticCell<StackResources<INNER_SOCKETS>> = ConstStaticCell::new(StackResources::new());
    embassy_net::new(Network::Mesh(device), Default::default(), INNER.take(), seed)
}

/// The board's own network. A call of its own, for the sake of the stack.
#[inline(never)]
fn outer_network<D: Driver>(driver: D, network: ConfigV4, seed: u64) -> (Stack<'static>, NetRunner<D>) {
    static OUTER: ConstStaticCell<StackResources<OUTER_SOCKETS>> = ConstStaticCell::new(StackResources::new());
    let mut config = embassy_net::Config::default();
    config.ipv4 = network;
    let driver = Fair::new(driver);
    #[cfg(feature = "weft")]
    let driver = Network::Board(driver);
    embassy_net::new(driver, config, OUTER.take(), seed)
}

/// Starts what serves the sensor on `application`'s network.
#[inline(never)]
fn services(spawner: Spawner, outer: Stack<'static>, application: Application, settings: &'static Settings) {
    static HTTP: ConstStaticCell<[HttpBuffers; HTTP_SOCKETS]> =
        ConstStaticCell::new([const { HttpBuffers { rx: [0; 512], tx: [0; 1_024] } }; HTTP_SOCKETS]);
    spawner.spawn(unwrap!(report(outer)));
    for buffers in HTTP.take() {
        spawner.spawn(unwrap!(http_server(application, buffers)));
    }
    spawner.spawn(unwrap!(pusher(application, &settings.push_to)));
}

#[embassy_executor::task(pool_size = HTTP_SOCKETS)]
async fn http_server(application: Application, buffers: &'static mut HttpBuffers) -> ! {
    http::serve(application.stack, application, &mut buffers.rx, &mut buffers.tx).await
}

#[embassy_executor::task]
async fn pusher(application: Application, to: &'static str) -> ! {
    static BUFFERS: ConstStaticCell<push::Buffers> = ConstStaticCell::new(push::Buffers::new());
    application.stack.wait_config_up().await;
    push::push(application, to, BUFFERS.take()).await
}

#[cfg(feature = "weft")]
#[embassy_executor::task]
async fn mesh_log(node: weft_embassy::Node) -> ! {
    mesh::log(node).await
}

/// Tells in the log when the board's own network comes and goes.
#[embassy_executor::task]
async fn report(outer: Stack<'static>) -> ! {
    loop {
        outer.wait_link_up().await;
        info!("link up");
        outer.wait_config_up().await;
        if let Some(config) = outer.config_v4() {
            info!("network up: {}", config.address);
        }
        outer.wait_config_down().await;
        info!("network down");
    }
}
