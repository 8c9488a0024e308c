//! The server's port speaks HTTP/1.1: `/health`, and `/weft/control`, which switches to the control protocol.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use hyper::{service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;
use weft_core::{
    control::{
        PATH, PROTOCOL, VERSIONS,
        upgrade::{Accepted, UpgradeRefusal, negotiate},
    },
    keys::ServerSecret,
};

use crate::{
    admission::Slot, connection::Connection, directory::Directory, session, store::NETWORK, store::server_keys::public,
};

/// How long a connection has for its request, and for its answer to be taken.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is kept of a request's head.
const MAX_HEAD: usize = 8 * 1_024;

const VERSION_HEADER: &str = "weft-version";
const SERVER_KEY_HEADER: &str = "weft-server-key";

/// The connection that a request came in, for those who answer it.
#[derive(Clone, Debug)]
struct Via {
    from: SocketAddr,
    slot: Arc<Slot>,
}

/// What is served.
pub(super) fn router(directory: Arc<Directory>) -> Router {
    Router::new().route("/health", get(health)).route(PATH, any(upgrade)).with_state(directory)
}

/// Serves one connection until it is upgraded, ends, takes too long or has to make room.
pub(super) async fn serve(router: Router, stream: TcpStream, from: SocketAddr, slot: Slot) {
    let via = Via { from, slot: Arc::new(slot) };
    let slot = Arc::downgrade(&via.slot);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(via.clone());
        async move { router.call(request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let evicted = async {
        match slot.upgrade() {
            Some(slot) => slot.evicted().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // How a client breaks HTTP is of no interest to anybody.
        _ = connection => {}
        () = tokio::time::sleep(HTTP_TIMEOUT) => {}
        () = evicted => {}
    }
}

/// Says that the server serves, and nothing about the network, since anybody may ask.
async fn health() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], "{\"status\":\"ok\"}\n")
}

async fn upgrade(State(directory): State<Arc<Directory>>, mut request: Request) -> Response {
    let (accepted, secret) = match check(&directory, &request) {
        Ok(accepted) => accepted,
        Err(refusal) => return refused(refusal),
    };
    let Some(via) = request.extensions().get::<Via>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            switch(directory, upgraded, accepted, secret, via).await;
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static(PROTOCOL)),
    ];
    let version = [(VERSION_HEADER, accepted.version.to_string())];
    (StatusCode::SWITCHING_PROTOCOLS, headers, version).into_response()
}

fn check(directory: &Directory, request: &Request) -> Result<(Accepted, ServerSecret), UpgradeRefusal> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, PROTOCOL);
    if !asks {
        return Err(UpgradeRefusal::BadRequest);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let keys = directory.keys();
    let public_keys: Vec<_> = keys.all().map(public).collect();
    let accepted = negotiate(text(VERSION_HEADER), text(SERVER_KEY_HEADER), &public_keys)?;
    let secret = keys.all().zip(&public_keys).find(|(_, public)| **public == accepted.server);
    let secret = secret.map(|(secret, _)| secret.clone()).ok_or(UpgradeRefusal::UnknownServerKey)?;
    Ok((accepted, secret))
}

fn refused(refusal: UpgradeRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (status, [(VERSION_HEADER, VERSIONS.to_string())], format!("{refusal}\n")).into_response();
    if status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    }
    response
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

async fn switch(directory: Arc<Directory>, upgraded: Upgraded, accepted: Accepted, secret: ServerSecret, via: Via) {
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let stream = parts.io.into_inner();
    let connection = Connection::new(stream, &parts.read_buf, &accepted, NETWORK, via.from);
    let Via { slot, .. } = via;
    let (registered, is_registered) = tokio::sync::oneshot::channel::<Infallible>();
    let mut serving = std::pin::pin!(session::serve(directory, connection, secret, move || drop(registered)));
    tokio::select! {
        // In this order: a session that has begun has to end by itself, or the network keeps it for ever.
        biased;
        () = &mut serving => return,
        _ = is_registered => {}
        () = slot.evicted() => return,
    }
    // Proven: the connection no longer counts among those that are not.
    drop(slot);
    serving.await;
}
