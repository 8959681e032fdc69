//! The one request the rig makes: which brokers does a node know to be alive?
//!
//! Kafka protocol, Metadata (key 3) version 1. A node lists in the answer the
//! brokers that the controller has registered and unfenced, so it shows more than
//! an open port: the node follows the cluster's metadata, and who is listed takes
//! requests.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Length 20; key 3, version 1, correlation 0; client `rig`; no topics.
const REQUEST: &[u8] = b"\0\0\0\x11\0\x03\0\x01\0\0\0\0\0\x03rig\0\0\0\0";

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Far above the answer of the largest cluster a test would start.
const ANSWER_BYTES_MAX: u32 = 1 << 20;

/// The ids of the brokers that the node listening on `port` knows to be alive.
pub(super) fn alive_brokers(port: u16) -> io::Result<Vec<i32>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(REQUEST)?;

    let length = u32::from_be_bytes(take(&mut stream)?);
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a metadata answer of {length} bytes"),
        ));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    broker_ids(&answer)
}

/// Reads an answer's correlation and its list of brokers: id, host, port, rack.
fn broker_ids(mut answer: &[u8]) -> io::Result<Vec<i32>> {
    let answer = &mut answer;
    let _correlation: [u8; 4] = take(answer)?;
    let count = i32::from_be_bytes(take(answer)?);
    (0..count)
        .map(|_| {
            let id = i32::from_be_bytes(take(answer)?);
            skip_string(answer)?;
            let _port: [u8; 4] = take(answer)?;
            skip_string(answer)?;
            Ok(id)
        })
        .collect()
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A string's length is -1 when there is none.
fn skip_string(from: &mut &[u8]) -> io::Result<()> {
    let length = usize::try_from(i16::from_be_bytes(take(from)?)).unwrap_or(0);
    *from = from.get(length..).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka 4.4.0 answered.
    const ONE_BROKER: &[u8] =
        b"\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\x09127.0.0.1\0\0J\x94\xff\xff\0\0\0\x01\0\0\0\0";

    #[test]
    fn request_states_its_own_length() {
        assert_eq!(REQUEST[..4], (REQUEST.len() as u32 - 4).to_be_bytes());
    }

    #[test]
    fn an_answer_lists_its_brokers() {
        assert_eq!(broker_ids(ONE_BROKER).unwrap(), [1]);
    }

    #[test]
    fn two_brokers_one_with_a_rack() {
        let answer = b"\0\0\0\0\0\0\0\x02\0\0\0\x02\0\x01a\0\0\0\x09\0\x01r\0\0\0\x05\0\x01b\0\0\0\x09\xff\xff";
        assert_eq!(broker_ids(answer).unwrap(), [2, 5]);
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for length in 0..28 {
            let error = broker_ids(&ONE_BROKER[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }
}
