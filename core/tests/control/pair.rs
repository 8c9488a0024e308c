//! A client half and a server half with two byte streams between them, on a virtual clock.

use weft_core::{
    control::{
        ClientConfig, ClientConnection, ClientError, ClientRecord, Delivery, InstanceId, MAX_FRAME, NetworkId, NodeId,
        Revision, ServerConnection, ServerError, ServerRecord,
        proof::NodeKeyProof,
        record::{Register, Registered, SelfInfo, Text},
        upgrade::{Accepted, UpgradeRefusal, negotiate},
    },
    crypto::{RustCrypto, dh::X25519},
    keys::{MachineSecret, NodeKey, NodeSecret, ServerKey, ServerSecret},
    time::{Instant, UnixTime},
};

use crate::rng::TestRng;

pub(crate) const NETWORK: NetworkId = NetworkId(7);

pub(crate) fn text(text: &str) -> Text<'_> {
    Text::new(text).unwrap()
}

pub(crate) fn server_secret() -> ServerSecret {
    ServerSecret::from_bytes([0x51; 32])
}

pub(crate) fn server_key() -> ServerKey {
    server_secret().public::<X25519>()
}

pub(crate) fn machine() -> MachineSecret {
    MachineSecret::from_bytes([0x4d; 32])
}

pub(crate) fn node_secret() -> NodeSecret {
    NodeSecret::from_bytes([0x4e; 32])
}

pub(crate) fn node_key() -> NodeKey {
    node_secret().public::<X25519>()
}

pub(crate) fn client(server: ServerKey, now: Instant, seed: u64) -> ClientConnection {
    client_with(server, now, &mut TestRng::new(seed))
}

pub(crate) fn client_with(server: ServerKey, now: Instant, rng: &mut dyn rand_core::CryptoRng) -> ClientConnection {
    let config = ClientConfig {
        address: "http://weft.test:8080".parse().unwrap(),
        server,
        machine: machine(),
        machine_key: machine().public::<X25519>(),
    };
    ClientConnection::new(config, now, rng)
}

/// The HTTP server: takes an upgrade request apart and answers it.
pub(crate) fn upgrade(request: &[u8], keys: &[ServerKey]) -> (Vec<u8>, Result<Accepted, UpgradeRefusal>) {
    let request = core::str::from_utf8(request).unwrap();
    assert!(request.starts_with("GET /weft/control HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"), "{request}");
    let header = |name: &str| {
        request.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name).map(|(_, value)| value))
    };
    assert_eq!((header("Connection"), header("Upgrade")), (Some("Upgrade"), Some("weft-control")));
    assert!(header("Host").is_some());
    let decision = negotiate(header("Weft-Version"), header("Weft-Server-Key"), keys);
    let answer = match &decision {
        Ok(accepted) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: weft-control\r\nweft-version: {}\r\n\r\n",
            accepted.version
        ),
        Err(refusal) => {
            let body = refusal.to_string();
            let status = refusal.status();
            format!("HTTP/1.1 {status} Refused\r\nweft-version: 1-1\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        }
    };
    (answer.into_bytes(), decision)
}

/// Both halves, with the handshake done and nothing registered.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) now: Instant,
}

pub(crate) fn client_transmit(client: &mut ClientConnection, now: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut out = [0; MAX_FRAME];
        match client.transmit::<RustCrypto>(&mut out, now) {
            0 => return bytes,
            len => bytes.extend_from_slice(&out[..len]),
        }
    }
}

pub(crate) fn server_transmit(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut out = [0; MAX_FRAME];
        match server.transmit::<RustCrypto>(&mut out) {
            0 => return bytes,
            len => bytes.extend_from_slice(&out[..len]),
        }
    }
}

pub(crate) fn client_steps(client: &mut ClientConnection) -> Result<usize, ClientError> {
    let mut steps = 0;
    while client.needs_step() {
        client.step::<RustCrypto>()?;
        steps += 1;
    }
    Ok(steps)
}

pub(crate) fn server_steps(server: &mut ServerConnection) -> Result<usize, ServerError> {
    let mut steps = 0;
    while server.needs_step() {
        server.step::<RustCrypto>(&server_secret())?;
        steps += 1;
    }
    Ok(steps)
}

impl Pair {
    /// Halves whose upgrade is done; the client has message 1 to send.
    pub(crate) fn upgraded() -> Self {
        let now = Instant::from_secs(1_000);
        let mut client = client(server_key(), now, 1);
        let request = client_transmit(&mut client, now);
        let (answer, accepted) = upgrade(&request, &[server_key()]);
        let server = ServerConnection::new(&accepted.unwrap(), now, &mut TestRng::new(2));
        assert_eq!(client.receive::<RustCrypto>(&mut &answer[..], now), Ok(None));
        Self { client, server, now }
    }

    /// Halves whose channel is open.
    pub(crate) fn open() -> Self {
        Self::upgraded().opened()
    }

    /// Does the handshake.
    pub(crate) fn opened(self) -> Self {
        let mut pair = self;
        assert_eq!(client_steps(&mut pair.client), Ok(3));
        let message = client_transmit(&mut pair.client, pair.now);
        assert_eq!(pair.give_server(&message), Ok(None));
        assert_eq!(server_steps(&mut pair.server), Ok(5));
        let message = server_transmit(&mut pair.server);
        assert_eq!(pair.give_client(&message), Ok(None));
        assert_eq!(client_steps(&mut pair.client), Ok(2));
        assert!(pair.client.is_open() && !pair.client.is_registered());
        pair
    }

    /// Halves of a registered node.
    pub(crate) fn registered() -> Self {
        Self::registered_as(Delivery::Whole, None)
    }

    pub(crate) fn registered_as(delivery: Delivery, resume: Option<Revision>) -> Self {
        let mut pair = Self::open();
        let register = pair.register(resume);
        let frame = pair.client_frame(&register.into());
        assert!(matches!(pair.give_server(&frame), Ok(Some(ClientRecord::Register(_)))));
        let frame = pair.server_frame(&registered(delivery).into());
        assert!(matches!(pair.give_client(&frame), Ok(Some(ServerRecord::Registered(_)))));
        assert!(pair.client.is_registered() && pair.server.is_registered());
        pair
    }

    /// The client's proof of its node key.
    pub(crate) fn register_proof(&self) -> NodeKeyProof {
        self.client.prove_node_key::<X25519>(&node_secret(), &node_key()).unwrap().unwrap()
    }

    pub(crate) fn register(&self, resume: Option<Revision>) -> Register<'static> {
        Register {
            node_key: node_key(),
            proof: self.register_proof(),
            join_secret: None,
            instance: InstanceId(5),
            hostname: text("laptop"),
            os: text("linux"),
            agent: text("0.1.0"),
            capacity: None,
            resume,
            network: None,
        }
    }

    pub(crate) fn client_frame(&mut self, record: &ClientRecord<'_>) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = self.client.send::<RustCrypto>(record, &mut out, self.now).unwrap();
        out[..len].to_vec()
    }

    pub(crate) fn server_frame(&mut self, record: &ServerRecord<'_>) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = self.server.send::<RustCrypto>(NETWORK, record, &mut out).unwrap();
        out[..len].to_vec()
    }

    /// Gives the server bytes that hold at most one record.
    pub(crate) fn give_server(&mut self, mut bytes: &[u8]) -> Result<Option<ClientRecord<'_>>, ServerError> {
        self.server.receive::<RustCrypto>(&mut bytes, self.now)
    }

    /// Gives the client bytes that hold at most one record.
    pub(crate) fn give_client(&mut self, mut bytes: &[u8]) -> Result<Option<ServerRecord<'_>>, ClientError> {
        self.client.receive::<RustCrypto>(&mut bytes, self.now)
    }
}

pub(crate) fn registered(delivery: Delivery) -> Registered<'static> {
    Registered {
        node: SelfInfo {
            id: NodeId(3),
            node_key: node_key(),
            name: text("laptop"),
            addresses: Default::default(),
            domain: text("home.weft"),
            delivery,
            key_expiry: None,
            user: Some(text("ann")),
            tags: Default::default(),
        },
        time: UnixTime::new(1_800_000_000, 0),
        seen_from: None,
        server: None,
    }
}
