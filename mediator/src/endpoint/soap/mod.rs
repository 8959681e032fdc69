//! SOAP over HTTP: what goes around a body, and what comes back.
//!
//! | | SOAP 1.1 | SOAP 1.2 |
//! | --- | --- | --- |
//! | namespace | `http://schemas.xmlsoap.org/soap/envelope/` | `http://www.w3.org/2003/05/soap-envelope` |
//! | content type | `text/xml` (note of 2000, section 6) | `application/soap+xml` (part 2, section 7.1.4) |
//! | action | header `SOAPAction`, quoted | parameter `action` of the content type |
//! | a fault's parts | `faultcode`, `faultstring` | `Code/Value`, `Reason/Text` |
//!
//! What is not here: headers of SOAP, attachments, RPC encoding, WS-*. An answer in
//! the other version is refused.

mod envelope;

pub use envelope::{Answer, SoapFault, Unread, Version, read, wrap};
