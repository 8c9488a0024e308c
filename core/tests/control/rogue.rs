//! A node, and a server, that keep to the handshake and to nothing else: `snow` on their side of a connection to our
//! half.

use weft_core::{
    control::{
        ClientConnection, ClientRecord, Delivery, NetworkId, ServerConnection, ServerError,
        proof::{Binding, NodeKeyProof},
        record::Register,
    },
    crypto::{RustCrypto, dh::X25519},
};

use crate::{
    pair::{
        NETWORK, Pair, client_steps, client_transmit, machine, node_key, node_secret, registered, server_key,
        server_secret, server_steps, server_transmit,
    },
    vectors::snow_builder,
};

pub(crate) struct RogueNode {
    pub(crate) server: ServerConnection,
    noise: snow::TransportState,
    handshake_hash: [u8; 32],
    now: weft_core::time::Instant,
}

impl RogueNode {
    pub(crate) fn open() -> Self {
        let Pair { mut server, now, .. } = Pair::upgraded();
        let mut noise = snow_builder(b"weft-control 1 1-1 /weft/control")
            .local_private_key(machine().as_bytes())
            .unwrap()
            .remote_public_key(server_key().as_bytes())
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut message_1 = [0; 98];
        message_1[1] = 96;
        noise.write_message(&[], &mut message_1[2..]).unwrap();
        assert_eq!(server.receive::<RustCrypto>(&mut &message_1[..], now), Ok(None));
        server_steps(&mut server).unwrap();
        let message_2 = server_transmit(&mut server);
        assert_eq!(message_2[..2], [0, 48]);
        noise.read_message(&message_2[2..], &mut []).unwrap();
        let handshake_hash = noise.get_handshake_hash().try_into().unwrap();
        Self { server, noise: noise.into_transport_mode().unwrap(), handshake_hash, now }
    }

    pub(crate) fn registered() -> Self {
        let mut this = Self::open();
        let frame = this.register_frame(NetworkId::UNKNOWN);
        match this.give_server(&frame) {
            Ok(Some(ClientRecord::Register(register))) => {
                let (proof, key) = (register.proof, register.node_key);
                assert!(this.server.verify_node_key::<X25519>(&proof, &key, &crate::pair::server_secret()));
            }
            other => panic!("{other:?}"),
        }
        let mut out = [0; 1_042];
        let answer = registered(Delivery::Whole).into();
        let len = this.server.send::<RustCrypto>(NETWORK, &answer, &mut out).unwrap();
        this.noise.read_message(&out[2..len], &mut [0; 1_042]).unwrap();
        this
    }

    /// Seals any bytes as the next frame.
    pub(crate) fn frame(&mut self, content: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; content.len() + 16];
        let len = self.noise.write_message(content, &mut sealed).unwrap();
        [&u16::try_from(len).unwrap().to_be_bytes()[..], &sealed].concat()
    }

    pub(crate) fn register_frame(&mut self, network: NetworkId) -> Vec<u8> {
        let binding = Binding { handshake_hash: self.handshake_hash, machine: machine().public::<X25519>() };
        let proof = NodeKeyProof::prove::<X25519>(&binding, &node_secret(), &node_key(), &server_key()).unwrap();
        let register: ClientRecord<'_> = Register { proof, ..Pair::open().register(None) }.into();
        let mut out = [0; 1_024];
        let len = register.encode(network, &mut out).unwrap();
        self.frame(&out[..len])
    }

    pub(crate) fn give_server(&mut self, mut bytes: &[u8]) -> Result<Option<ClientRecord<'_>>, ServerError> {
        self.server.receive::<RustCrypto>(&mut bytes, self.now)
    }
}

pub(crate) struct RogueServer {
    pub(crate) client: ClientConnection,
    pub(crate) now: weft_core::time::Instant,
    noise: snow::TransportState,
}

impl RogueServer {
    /// The channel is open, and the client sent its `Register`.
    pub(crate) fn open() -> Self {
        let mut pair = Pair::upgraded();
        let mut noise = snow_builder(b"weft-control 1 1-1 /weft/control")
            .local_private_key(server_secret().as_bytes())
            .unwrap()
            .build_responder()
            .unwrap();
        client_steps(&mut pair.client).unwrap();
        let message_1 = client_transmit(&mut pair.client, pair.now);
        noise.read_message(&message_1[2..], &mut []).unwrap();
        let mut message_2 = [0; 50];
        message_2[1] = 48;
        noise.write_message(&[], &mut message_2[2..]).unwrap();
        assert_eq!(pair.give_client(&message_2), Ok(None));
        client_steps(&mut pair.client).unwrap();
        let mut noise = noise.into_transport_mode().unwrap();
        let register = pair.register(None);
        let frame = pair.client_frame(&register.into());
        noise.read_message(&frame[2..], &mut [0; 1_042]).unwrap();
        Self { client: pair.client, now: pair.now, noise }
    }

    /// Seals any bytes as the next frame.
    pub(crate) fn frame(&mut self, content: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; content.len() + 16];
        let len = self.noise.write_message(content, &mut sealed).unwrap();
        [&u16::try_from(len).unwrap().to_be_bytes()[..], &sealed].concat()
    }
}
