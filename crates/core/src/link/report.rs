//! Reports of what became of a key: optional frames, which may be lost and are never answered.

use super::codec::{FrameError, Reader, Writer};
use super::frame::AgentFrame;
use super::limits;
use instance_connect_document::{
    BootInstant, Fingerprint, InstanceId, OsUser, RemoteHost, RequestId, SessionId,
};

/// A report that the sshd command printed a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// When, on the machine's clock.
    pub offered_at: BootInstant,
    /// How many reports were dropped since the previous one.
    pub lost: u32,
    /// The key.
    pub fingerprint: Fingerprint,
    /// For whom.
    pub os_user: OsUser,
    /// The requests that pushed it; only the first [`limits::OFFERED_REQUESTS`] are sent.
    pub request_ids: Vec<RequestId>,
}

/// A report that a key was used to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// What happened.
    pub event: UseEvent,
    /// When, on the machine's clock.
    pub at: BootInstant,
    /// How many reports were dropped since the previous one.
    pub lost: u32,
    /// Which login.
    pub session: SessionId,
    /// The key.
    pub fingerprint: Fingerprint,
    /// Whose account.
    pub os_user: OsUser,
    /// Where the login comes from.
    pub from: RemoteHost,
    /// The requests that pushed the key; only the first [`limits::OFFERED_REQUESTS`] are sent.
    pub request_ids: Vec<RequestId>,
}

/// What is known of a key that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseEvent {
    /// The first login with what these requests pushed.
    Used,
    /// A login begins.
    Opened,
    /// A login ends.
    Closed,
}

/// A report that a key's time ended without sshd ever having been given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredUnused {
    /// When, on the machine's clock.
    pub at: BootInstant,
    /// How many reports were dropped since the previous one.
    pub lost: u32,
    /// The key.
    pub fingerprint: Fingerprint,
    /// For whom it was.
    pub os_user: OsUser,
    /// The request that pushed it.
    pub request_id: RequestId,
}

/// A report on a key of a guest: an instance without an agent, for whose metadata service this one answers. What else an
/// agent says is of its own instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestReport {
    /// The guest.
    pub instance: InstanceId,
    /// What became of the key.
    pub report: GuestKey,
}

/// What an agent knows of a guest's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestKey {
    /// The guest's scripts were shown it.
    Offered(Offered),
    /// They were never shown it.
    ExpiredUnused(ExpiredUnused),
}

impl GuestReport {
    /// What is said of a guest where an agent would say `report` of its own instance; `None` for what it cannot know: nothing
    /// of a guest's logins comes here.
    pub fn of(instance: InstanceId, report: AgentFrame) -> Option<Self> {
        let report = match report {
            AgentFrame::Offered(offered) => GuestKey::Offered(offered),
            AgentFrame::ExpiredUnused(unused) => GuestKey::ExpiredUnused(unused),
            _ => return None,
        };
        Some(Self { instance, report })
    }

    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let report = match &self.report {
            GuestKey::Offered(offered) => offered.encode(GUEST_OFFERED),
            GuestKey::ExpiredUnused(unused) => unused.encode(GUEST_EXPIRED_UNUSED),
        };
        Writer::new(kind).text8(self.instance.as_str()).rest(&report).finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let instance = body.text8("instance id")?;
        let report = match body.u8()? {
            GUEST_OFFERED => GuestKey::Offered(Offered::decode(body)?),
            GUEST_EXPIRED_UNUSED => GuestKey::ExpiredUnused(ExpiredUnused::decode(body)?),
            _ => return Err(FrameError::Malformed("report on a guest")),
        };
        Ok(Self { instance, report })
    }
}

/// What a report on a guest's key is: behind this number as in the frame of its own.
const GUEST_OFFERED: u8 = 1;
const GUEST_EXPIRED_UNUSED: u8 = 2;

impl Offered {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let writer = Writer::new(kind)
            .boot(self.offered_at)
            .u32(self.lost)
            .fingerprint(&self.fingerprint)
            .text8(self.os_user.as_str());
        write_requests(writer, &self.request_ids)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (offered_at, lost) = (body.boot()?, body.u32()?);
        let (fingerprint, os_user) = (body.fingerprint()?, body.text8("OS user")?);
        Ok(Self { offered_at, lost, fingerprint, os_user, request_ids: read_requests(body)? })
    }
}

impl UseEvent {
    const fn code(self) -> u8 {
        match self {
            Self::Used => 1,
            Self::Opened => 2,
            Self::Closed => 3,
        }
    }

    fn from_code(code: u8) -> Result<Self, FrameError> {
        let all = [Self::Used, Self::Opened, Self::Closed];
        all.into_iter().find(|event| event.code() == code).ok_or(FrameError::Malformed("use of a key"))
    }
}

impl KeyUse {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        let writer = Writer::new(kind)
            .u8(self.event.code())
            .boot(self.at)
            .u32(self.lost)
            .u32(self.session.process)
            .u64(self.session.started)
            .fingerprint(&self.fingerprint)
            .text8(self.os_user.as_str())
            .text8(self.from.as_str());
        write_requests(writer, &self.request_ids)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            event: UseEvent::from_code(body.u8()?)?,
            at: body.boot()?,
            lost: body.u32()?,
            session: SessionId { process: body.u32()?, started: body.u64()? },
            fingerprint: body.fingerprint()?,
            os_user: body.text8("OS user")?,
            from: body.text8("remote host")?,
            request_ids: read_requests(body)?,
        })
    }
}

impl ExpiredUnused {
    pub(super) fn encode(&self, kind: u8) -> Vec<u8> {
        Writer::new(kind)
            .boot(self.at)
            .u32(self.lost)
            .fingerprint(&self.fingerprint)
            .text8(self.os_user.as_str())
            .uuid(self.request_id.as_str())
            .finish()
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            at: body.boot()?,
            lost: body.u32()?,
            fingerprint: body.fingerprint()?,
            os_user: body.text8("OS user")?,
            request_id: body.uuid("request id")?,
        })
    }
}

fn write_requests(writer: Writer, request_ids: &[RequestId]) -> Vec<u8> {
    let request_ids = request_ids.iter().take(limits::OFFERED_REQUESTS);
    let writer = writer.count(request_ids.len());
    request_ids.fold(writer, |writer, request_id| writer.uuid(request_id.as_str())).finish()
}

fn read_requests(body: &mut Reader<'_>) -> Result<Vec<RequestId>, FrameError> {
    let count = body.count(limits::OFFERED_REQUESTS, "request count")?;
    (0..count).map(|_| body.uuid("request id")).collect()
}
