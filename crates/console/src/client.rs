//! A client as the SSH library reports it: which key it offers, and what it asks for.
//!
//! One session channel with a shell is all there is. Everything else is refused, by name where the library would keep silent.

use crate::algorithms::{is_accepted, line};
use crate::door::Door;
use crate::gateway::Gateway;
use crate::place::Expecting;
use instance_connect_core::console::Charset;
use instance_connect_core::console::door::{OFFERS, Offer, Text};
use instance_connect_planted::planted;
use russh::keys::{Algorithm, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Bytes of what a client has sent that are passed on at a time.
const PIECE: usize = 4 * 1024;

/// Pieces that wait for whoever passes them on. Then the client waits.
const PIECES: usize = 4;

/// What the SSH library calls.
#[derive(Debug)]
pub(crate) struct Client {
    gateway: Arc<Gateway>,
    source: IpAddr,
    expecting: Expecting,
    door: Option<Door>,
    offers: usize,
    /// What the control plane said yes to last.
    expected: Option<Offer>,
    /// What the client has proved to hold.
    proven: Option<Offer>,
    name: Text,
    charset: Charset,
    channel: Option<ChannelId>,
    authenticated: Option<oneshot::Sender<()>>,
    arrived: Option<oneshot::Sender<Arrival>>,
    input: Option<mpsc::Sender<Input>>,
}

/// Somebody who has come in and asks for the line.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The connection on which the control plane has expected this key; none when it is gone.
    pub(crate) door: Option<Door>,
    pub(crate) offer: Offer,
    /// What the client calls itself.
    pub(crate) name: Text,
    /// Which characters its terminal takes.
    pub(crate) charset: Charset,
    pub(crate) channel: ChannelId,
}

/// What comes from a client on its channel.
#[derive(Debug)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    /// Nothing more will be typed.
    Eof,
    /// The channel was closed: there is nobody left.
    Closed,
}

/// What a client does, for the task that serves it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) authenticated: oneshot::Receiver<()>,
    pub(crate) arrived: oneshot::Receiver<Arrival>,
    pub(crate) input: mpsc::Receiver<Input>,
}

impl Client {
    pub(crate) fn new(gateway: Arc<Gateway>, source: IpAddr, expecting: Expecting) -> (Self, Progress) {
        let (authenticated, is_authenticated) = oneshot::channel();
        let (arrived, has_arrived) = oneshot::channel();
        let (input, typed) = mpsc::channel(PIECES);
        let client = Self {
            gateway,
            source,
            expecting,
            door: None,
            offers: 0,
            expected: None,
            proven: None,
            name: Text::default(),
            charset: Charset::Unknown,
            channel: None,
            authenticated: Some(authenticated),
            arrived: Some(arrived),
            input: Some(input),
        };
        (client, Progress { authenticated: is_authenticated, arrived: has_arrived, input: typed })
    }

    /// Whether the control plane expects this key for this line, now. Whatever the answer is no for, it looks the same.
    async fn expects(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> bool {
        self.expected = None;
        self.offers += 1;
        if self.offers > OFFERS || !is_accepted(algorithm) || !*self.gateway.present.borrow() {
            return false;
        }
        let Some(offer) = self.offer(user, key) else { return false };
        match self.ask(&offer).await {
            Some(expected) if expected || planted("any-key-accepted") => {
                self.expecting.is_expected();
                self.expected = Some(offer);
                true
            }
            Some(_) | None => false,
        }
    }

    fn offer(&self, user: &str, key: &PublicKey) -> Option<Offer> {
        let (address, key) = (user.parse().ok()?, line(key)?.parse().ok()?);
        Some(Offer { address, key, source: self.source })
    }

    async fn ask(&mut self, offer: &Offer) -> Option<bool> {
        let mut door = match self.door.take() {
            Some(door) => door,
            None => Door::open(&self.gateway.socket).await.inspect_err(not_asked).ok()?,
        };
        let expected = door.expects(offer).await.inspect_err(not_asked).ok()?;
        self.door = Some(door);
        Some(expected)
    }

    fn is_ours(&self, channel: ChannelId) -> bool {
        self.channel == Some(channel)
    }
}

fn not_asked(error: &crate::door::DoorFailure) {
    tracing::warn!(%error, "the control plane could not be asked about a key");
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let is_expected = self.expects(user, offer.public_key, offer.algorithm).await;
        Ok(if is_expected { Auth::Accept } else { Auth::reject() })
    }

    /// The client holds the key. The control plane has said yes to just this key for just this line, on this connection.
    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let proven = self.offer(user, key.public_key).filter(|_| is_accepted(key.algorithm));
        let expected = self.expected.take();
        let is_expected = proven.is_some() && (proven == expected || planted("any-key-accepted"));
        if !is_expected {
            return Ok(Auth::reject());
        }
        self.proven = proven;
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        self.name = Text::lossy(&String::from_utf8_lossy(session.remote_sshid()));
        if let Some(authenticated) = self.authenticated.take() {
            let _ = authenticated.send(());
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.channel.is_some() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            self.channel = Some(channel.id());
            reply.accept().await;
        }
        Ok(())
    }

    /// Nothing is started here that would need a terminal.
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // RFC 8160.
        if modes.iter().any(|(mode, value)| *mode == Pty::IUTF8 && *value != 0) {
            self.charset = Charset::Utf8;
        }
        session.channel_success(channel)
    }

    /// A serial line has no size.
    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let Some((arrived, offer)) = self.arrived.take().zip(self.proven.take()) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        let _ = arrived.send(Arrival {
            door: self.door.take(),
            offer,
            name: self.name.clone(),
            charset: self.charset,
            channel,
        });
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _variable_name: &str,
        _variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    /// While all pieces wait, so does the client: nothing else is read of it.
    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Before the shell there is nobody to type to.
        let Some(input) = self.input.as_ref().filter(|_| self.is_ours(channel) && self.arrived.is_none())
        else {
            return Ok(());
        };
        for piece in data.chunks(PIECE) {
            if input.send(Input::Bytes(piece.to_vec())).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(input) = self.input.as_ref().filter(|_| self.is_ours(channel)) {
            let _ = input.send(Input::Eof).await;
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(input) = self.input.take_if(|_| self.channel == Some(channel)) {
            let _ = input.send(Input::Closed).await;
        }
        Ok(())
    }
}
