//! The agent: the two messages of the SSH agent protocol that a login needs, for one key. Everything else fails.

use super::cannot;
use super::key::{Key, push_string};
use crate::failure::Failure;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Longest message read. What ssh asks to sign is its session id and one request, under 1 KiB.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// Connections at once. ssh opens one; somebody who opens more waits for their turn.
const CONNECTIONS: usize = 4;

// Message numbers of draft-miller-ssh-agent, section 6.1.
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Listens on a socket. The directory it is in keeps others out.
pub(super) fn listen(socket: &Path) -> Result<UnixListener, Failure> {
    UnixListener::bind(socket).map_err(|error| cannot("listen for ssh", error))
}

/// Serves `key` for `lifetime`. Then the agent is gone with its connections, and the key with them.
pub(super) async fn serve_for(lifetime: Duration, listener: UnixListener, key: Key) {
    // A statement of its own: what is served is dropped at its end, and not when somebody drops this future.
    let _ = tokio::time::timeout(lifetime, serve(listener, key)).await;
}

async fn serve(listener: UnixListener, key: Key) {
    let key = Arc::new(key);
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        // When accepting fails there is no way back; ssh then says that it has no key.
        let Ok((stream, _)) = listener.accept().await else { return };
        let key = Arc::clone(&key);
        connections.spawn(async move { converse(stream, &key).await });
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, to its end or to the first message that is too long.
pub(super) async fn converse(mut stream: UnixStream, key: &Key) {
    while let Ok(length) = stream.read_u32().await {
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= LONGEST_MESSAGE) else {
            return;
        };
        let mut message = vec![0; length];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        let mut reply = Vec::new();
        push_string(&mut reply, &answer(&message, key));
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

/// The answer to one message.
fn answer(message: &[u8], key: &Key) -> Vec<u8> {
    match message.split_first() {
        Some((&REQUEST_IDENTITIES, [])) => {
            let mut reply = vec![IDENTITIES_ANSWER];
            reply.extend_from_slice(&1_u32.to_be_bytes());
            push_string(&mut reply, key.blob());
            push_string(&mut reply, b"instance-connect");
            reply
        }
        Some((&SIGN_REQUEST, request)) => match data_to_sign(request, key) {
            Some(data) => {
                let mut reply = vec![SIGN_RESPONSE];
                push_string(&mut reply, &key.sign(data));
                reply
            }
            None => vec![FAILURE],
        },
        _ => vec![FAILURE],
    }
}

/// What is to be signed, when the request is well-formed and for our key. The flags choose among RSA's hashes.
fn data_to_sign<'a>(mut request: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let blob = take_string(&mut request)?;
    let data = take_string(&mut request)?;
    let is_whole = request.len() == size_of::<u32>();
    (blob == key.blob() && is_whole).then_some(data)
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (string, behind) = behind.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    *rest = behind;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use std::pin::pin;
    use tempfile::TempDir;

    fn sign_request(blob: &[u8], data: &[u8]) -> Vec<u8> {
        let mut message = vec![SIGN_REQUEST];
        push_string(&mut message, blob);
        push_string(&mut message, data);
        message.extend_from_slice(&[0; 4]);
        message
    }

    #[test]
    fn the_one_key_is_listed_and_signs() {
        let key = Key::generate().unwrap();
        let listed = answer(&[REQUEST_IDENTITIES], &key);
        assert_eq!(&listed[..5], [IDENTITIES_ANSWER, 0, 0, 0, 1]);
        assert_eq!(take_string(&mut &listed[5..]), Some(key.blob()));

        let reply = answer(&sign_request(key.blob(), b"data"), &key);
        assert_eq!(reply[0], SIGN_RESPONSE);
        let mut signature = take_string(&mut &reply[1..]).unwrap();
        assert_eq!(take_string(&mut signature), Some(&b"ssh-ed25519"[..]));
        let public = &key.blob()[19..];
        let raw = take_string(&mut signature).unwrap();
        UnparsedPublicKey::new(&ED25519, public).verify(b"data", raw).unwrap();
    }

    #[test]
    fn everything_else_fails() {
        let key = Key::generate().unwrap();
        let other = Key::generate().unwrap();
        let whole = sign_request(key.blob(), b"data");
        let mut longer = whole.clone();
        longer.push(0);
        let mut cases = vec![
            vec![],
            vec![REQUEST_IDENTITIES, 0],
            // Version 1, add, remove, lock, extension.
            vec![1],
            vec![17],
            vec![19],
            vec![22],
            vec![27],
            sign_request(other.blob(), b"data"),
            longer,
            [&[SIGN_REQUEST][..], &[0xff; 12]].concat(),
        ];
        cases.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
        for message in cases {
            assert_eq!(answer(&message, &key), [FAILURE], "{message:?}");
        }
    }

    #[tokio::test]
    async fn one_message_after_the_other_and_none_too_long() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("agent");
        let agent = tokio::spawn(serve(listen(&socket).unwrap(), Key::generate().unwrap()));
        for _ in 0..CONNECTIONS * 2 {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            for _ in 0..3 {
                stream.write_all(&[0, 0, 0, 1, 99]).await.unwrap();
                let mut reply = [0; 5];
                stream.read_exact(&mut reply).await.unwrap();
                assert_eq!(reply, [0, 0, 0, 1, FAILURE]);
            }
            stream.write_u32(u32::try_from(LONGEST_MESSAGE + 1).unwrap()).await.unwrap();
            assert!(stream.read_u8().await.is_err(), "the agent hangs up");
        }
        agent.abort();
    }

    /// With the key's time over, the agent and every connection to it are gone.
    #[tokio::test(start_paused = true)]
    async fn ends_with_its_time() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("agent");
        let listener = listen(&socket).unwrap();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let mut serving = pin!(serve_for(Duration::from_secs(60), listener, Key::generate().unwrap()));
        serving.as_mut().await;
        assert!(stream.read_u8().await.is_err());
        // A program that another test starts has a copy of the listener until it runs.
        for _ in 0..100_000 {
            if UnixStream::connect(&socket).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("somebody still listens");
    }
}
