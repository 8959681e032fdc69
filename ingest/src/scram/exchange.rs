use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::verifier::{KEY_BYTES, Verifier, keyed, sha256};

const NONCE_BYTES: usize = 18;
/// The longest nonce of a client, in bytes.
const CLIENT_NONCE_BYTES_MAX: usize = 256;

/// The server's part of a login, from the client's first message on (RFC 5802, section 3).
#[derive(Debug)]
pub struct Exchange {
    verifier: Verifier,
    /// `n,,` or `y,,`: which the client repeats in the end.
    header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

/// Why a login is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A message is not what the protocol asks for.
    #[error("the message is not SCRAM's: {0}")]
    Malformed(&'static str),
    /// The client does not know the password.
    #[error("the password is another")]
    WrongPassword,
}

impl Exchange {
    /// Reads the client's first message; who it says to be there is not looked at, since
    /// the caller knows.
    ///
    /// # Errors
    /// [`Refused::Malformed`].
    pub fn begin(verifier: Verifier, client_first: &[u8]) -> Result<Self, Refused> {
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).expect("the system has random bytes");
        Self::with_nonce(verifier, client_first, &STANDARD.encode(nonce))
    }

    fn with_nonce(verifier: Verifier, first: &[u8], nonce: &str) -> Result<Self, Refused> {
        let malformed = Refused::Malformed;
        let first = std::str::from_utf8(first).map_err(|_| malformed("no UTF-8"))?;
        let mut parts = first.splitn(3, ',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("the first message has too few parts"));
        };
        if !matches!(flag, "n" | "y") {
            return Err(malformed("there is no channel binding here"));
        }
        if bare.starts_with("m=") {
            return Err(malformed("an extension that is not known is mandatory"));
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().is_some_and(|user| user.starts_with("n="));
        let theirs = attributes.next().and_then(|of| of.strip_prefix("r="));
        let theirs = theirs.filter(|of| user && (1..=CLIENT_NONCE_BYTES_MAX).contains(&of.len()));
        let Some(theirs) = theirs else {
            return Err(malformed("the first message has no user and nonce"));
        };
        let nonce = format!("{theirs}{nonce}");
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let header = format!("{flag},{identity},");
        Ok(Self { verifier, header, client_first_bare: bare.to_owned(), server_first, nonce })
    }

    /// What the client is answered to its first message.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Looks at the client's last message. Answers what the client is told, by which it
    /// sees that the server knew the password too.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn finish(self, client_final: &[u8]) -> Result<String, Refused> {
        let malformed = Refused::Malformed;
        let last = std::str::from_utf8(client_final).map_err(|_| malformed("no UTF-8"))?;
        let (unproven, proof) =
            last.rsplit_once(",p=").ok_or(malformed("the last message has no proof"))?;
        let mut attributes = unproven.split(',');
        let binding = attributes.next().and_then(|of| of.strip_prefix("c="));
        if binding != Some(STANDARD.encode(&self.header).as_str()) {
            return Err(malformed("its channel binding is another than it was"));
        }
        if attributes.next().and_then(|of| of.strip_prefix("r=")) != Some(&self.nonce) {
            return Err(malformed("its nonce is another than it was"));
        }
        let proof: [u8; KEY_BYTES] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(malformed("the proof has not 32 bytes"))?;
        let spoken = format!("{},{},{unproven}", self.client_first_bare, self.server_first);
        let signature = keyed(&self.verifier.stored_key, spoken.as_bytes());
        let mut client_key = proof;
        for (byte, of) in client_key.iter_mut().zip(signature) {
            *byte ^= of;
        }
        let stored_key = sha256(&client_key);
        if verify_slices_are_equal(&stored_key, &self.verifier.stored_key).is_err() {
            return Err(Refused::WrongPassword);
        }
        let signature = keyed(&self.verifier.server_key, spoken.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3: `pencil`, by its verifier.
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn begun() -> Exchange {
        let kept = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        Exchange::with_nonce(kept.parse().unwrap(), FIRST, NONCE).unwrap()
    }

    #[test]
    fn it_is_spoken_as_in_the_rfc() {
        let exchange = begun();
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(exchange.server_first(), first);
        let said = exchange.finish(LAST.as_bytes()).unwrap();
        assert_eq!(said, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn who_does_not_know_the_password_is_not_let_in() {
        let wrong = LAST.replace("p=d", "p=e");
        assert_eq!(begun().finish(wrong.as_bytes()), Err(Refused::WrongPassword));
        // What was kept of the password is no proof of it.
        let stolen = LAST.split_once("p=").unwrap().0.to_owned()
            + "p=WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
        assert_eq!(begun().finish(stolen.as_bytes()), Err(Refused::WrongPassword));
    }

    #[test]
    fn what_is_no_scram_is_refused() {
        let verifier = begun().verifier;
        for first in [
            &b""[..],
            b"\xff",
            b"n,,",
            b"n,,n=user",
            b"n,,n=user,r=",
            b"p=tls-unique,,n=user,r=abc",
            b"n,,m=x,n=user,r=abc",
        ] {
            let begun = Exchange::begin(verifier.clone(), first);
            assert!(matches!(begun, Err(Refused::Malformed(_))), "{first:?}: {begun:?}");
        }
        for last in [
            "",
            "p=",
            &LAST.replace("biws", "eSws"),
            &LAST.replace("k0,p", "k1,p"),
            &LAST.replace("dVQ=", ""),
        ] {
            let said = begun().finish(last.as_bytes());
            assert!(matches!(said, Err(Refused::Malformed(_))), "{last}: {said:?}");
        }
    }
}
