//! Noise IK and IKpsk2 over our symmetric state, against public vectors.

use serde_json::Value;
use weft_core::crypto::{
    Aead, Crypto, DiffieHellman, RustCrypto, TAG_LEN,
    noise::{SymmetricState, TransportKeys},
};

type A = <RustCrypto as Crypto>::Aead;
type Dh = <RustCrypto as Crypto>::Dh;

/// One of the vectors, with its fields decoded.
struct Vector {
    name: String,
    prologue: Vec<u8>,
    psk: Option<Vec<u8>>,
    initiator: Party,
    responder: Party,
    hash: Vec<u8>,
    /// Payload and ciphertext of each message.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Party {
    fixed: [u8; 32],
    ephemeral: [u8; 32],
}

impl Vector {
    fn of(value: &Value) -> Self {
        let text = |name: &str| hex::decode(value[name].as_str().unwrap()).unwrap();
        let key = |name: &str| text(name).try_into().unwrap();
        let vector = Self {
            name: value["protocol_name"].as_str().unwrap().into(),
            prologue: text("init_prologue"),
            psk: value["init_psks"].get(0).map(|psk| hex::decode(psk.as_str().unwrap()).unwrap()),
            initiator: Party { fixed: key("init_static"), ephemeral: key("init_ephemeral") },
            responder: Party { fixed: key("resp_static"), ephemeral: key("resp_ephemeral") },
            hash: text("handshake_hash"),
            messages: value["messages"].as_array().unwrap().iter().map(message).collect(),
        };
        assert_eq!(Dh::public_key(&vector.responder.fixed), key("init_remote_static"));
        vector
    }

    /// Where both sides start.
    fn start(&self) -> SymmetricState {
        let mut state = SymmetricState::new(self.name.as_bytes());
        state.mix_hash(&self.prologue);
        state.mix_hash(&Dh::public_key(&self.responder.fixed));
        state
    }

    fn mix_ephemeral(&self, state: &mut SymmetricState, public: &[u8]) {
        state.mix_hash(public);
        if self.psk.is_some() {
            state.mix_key(public);
        }
    }

    fn mix_psk(&self, state: &mut SymmetricState) {
        if let Some(psk) = &self.psk {
            state.mix_key_and_hash(psk);
        }
    }
}

fn message(value: &Value) -> (Vec<u8>, Vec<u8>) {
    let field = |name: &str| hex::decode(value[name].as_str().unwrap()).unwrap();
    (field("payload"), field("ciphertext"))
}

fn mix_shared(state: &mut SymmetricState, secret: &[u8; 32], public: &[u8]) {
    state.mix_key(Dh::agree(secret, public.try_into().unwrap()).unwrap().as_bytes());
}

fn sealed(state: &mut SymmetricState, text: &[u8]) -> Vec<u8> {
    let mut buffer = text.to_vec();
    let tag = state.encrypt_and_hash::<A>(&mut buffer);
    [buffer, tag.to_vec()].concat()
}

fn opened(state: &mut SymmetricState, sealed: &[u8]) -> Vec<u8> {
    let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().unwrap();
    let mut buffer = text.to_vec();
    state.decrypt_and_hash::<A>(&mut buffer, tag).unwrap();
    buffer
}

/// Writes both messages as their senders would.
fn write(vector: &Vector) -> (Vec<u8>, Vec<u8>, SymmetricState) {
    let Vector { initiator, responder, messages, .. } = vector;
    let mut state = vector.start();
    let (e, s) = (Dh::public_key(&initiator.ephemeral), Dh::public_key(&initiator.fixed));
    vector.mix_ephemeral(&mut state, &e);
    mix_shared(&mut state, &initiator.ephemeral, &Dh::public_key(&responder.fixed));
    let sealed_static = sealed(&mut state, &s);
    mix_shared(&mut state, &initiator.fixed, &Dh::public_key(&responder.fixed));
    let first = [e.to_vec(), sealed_static, sealed(&mut state, &messages[0].0)].concat();

    let re = Dh::public_key(&responder.ephemeral);
    vector.mix_ephemeral(&mut state, &re);
    mix_shared(&mut state, &responder.ephemeral, &e);
    mix_shared(&mut state, &responder.ephemeral, &s);
    vector.mix_psk(&mut state);
    let second = [re.to_vec(), sealed(&mut state, &messages[1].0)].concat();
    (first, second, state)
}

/// Reads both messages as their receivers would.
fn read(vector: &Vector) -> SymmetricState {
    let Vector { initiator, responder, messages, .. } = vector;
    let mut state = vector.start();
    let (e, rest) = messages[0].1.split_at(32);
    let (sealed_static, sealed_payload) = rest.split_at(32 + TAG_LEN);
    vector.mix_ephemeral(&mut state, e);
    mix_shared(&mut state, &responder.fixed, e);
    let s = opened(&mut state, sealed_static);
    assert_eq!(s, Dh::public_key(&initiator.fixed));
    mix_shared(&mut state, &responder.fixed, &s);
    assert_eq!(opened(&mut state, sealed_payload), messages[0].0);

    let (re, sealed_payload) = messages[1].1.split_at(32);
    vector.mix_ephemeral(&mut state, re);
    mix_shared(&mut state, &initiator.ephemeral, re);
    mix_shared(&mut state, &initiator.fixed, re);
    vector.mix_psk(&mut state);
    assert_eq!(opened(&mut state, sealed_payload), messages[1].0);
    state
}

#[test]
fn both_patterns_agree_with_the_vectors_message_by_message() {
    let file: Value = serde_json::from_str(include_str!("vectors/noise/ik.json")).unwrap();
    let vectors: Vec<Vector> = file["vectors"].as_array().unwrap().iter().map(Vector::of).collect();
    assert_eq!(vectors.iter().map(|vector| vector.psk.is_some()).collect::<Vec<_>>(), [false, true]);
    for vector in &vectors {
        let (first, second, state) = write(vector);
        assert_eq!(hex::encode(first), hex::encode(&vector.messages[0].1), "{}", vector.name);
        assert_eq!(hex::encode(second), hex::encode(&vector.messages[1].1), "{}", vector.name);
        assert_eq!(state.handshake_hash(), vector.hash.as_slice());
        assert_eq!(read(vector).handshake_hash(), vector.hash.as_slice());

        let TransportKeys { initiator, responder } = &state.split();
        for (index, (payload, ciphertext)) in vector.messages[2..].iter().enumerate() {
            let key = if index % 2 == 0 { initiator } else { responder };
            let mut text = payload.clone();
            let tag = A::seal(key, index as u64 / 2, &[], &mut text);
            assert_eq!(hex::encode([text, tag.to_vec()].concat()), hex::encode(ciphertext), "message {}", index + 2);
        }
    }
}
