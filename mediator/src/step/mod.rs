//! The steps of routes, a file each.
//!
//! ```text
//!  spec ─ parse ─► Step ─ run(&mut Message, &Context) ─► go on, or end the run
//!   └► faults, with the place in the step                └► Fault
//! ```
//!
//! A step is parsed and compiled once. Its run changes the message, or fails with a
//! [`Fault`]: a code for the caller, a reason for operators that quotes nothing of
//! a body, and whose doing it was by the code.

mod call;
mod expression;
mod fault;
mod header;
mod mask;
mod respond;
mod soap;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod transform;

use ingest::registry;
use serde_json::{Map, Value as Json};

pub(crate) use self::expression::{Expression, Variables};
pub(crate) use self::fault::Fault;
pub(crate) use self::template::{Language, Template};
use crate::message::Message;
use crate::route::Context;

/// Makes the enum of steps and its parser from the table of kinds.
macro_rules! steps {
    ($($kind:ident $text:literal $module:ident,)+) => {
        /// What a step does.
        #[derive(Debug)]
        pub(crate) enum Step {
            $(
                #[doc = concat!("`", $text, "`")]
                $kind($module::$kind),
            )+
        }

        /// The kinds of steps.
        pub(crate) const KINDS: &[&str] = &[$($text),+];

        impl Step {
            /// The kind's name.
            pub(crate) fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $text,)+ }
            }

            fn parse_kind(kind: &str, body: &Json) -> Option<Result<Self, Vec<registry::Fault>>> {
                match kind {
                    $($text => Some($module::$kind::parse(body).map(Self::$kind)),)+
                    _ => None,
                }
            }

            /// Does it.
            ///
            /// # Errors
            /// [`Fault`].
            pub(crate) async fn run(
                &self,
                message: &mut Message,
                context: &Context<'_>,
            ) -> Result<Next, Fault> {
                match self { $(Self::$kind(step) => step.run(message, context).await,)+ }
            }
        }
    };
}

steps! {
    Call "call" call,
    Raise "fault" fault,
    RemoveHeader "remove_header" header,
    Respond "respond" respond,
    SetHeader "set_header" header,
    Soap "soap" soap,
    Store "store" store,
    Fill "template" transform,
    Transform "transform" transform,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next step.
    Step,
    /// The answer: the message as it is.
    Answer,
}

impl Step {
    /// Reads what a step of a route does.
    ///
    /// # Errors
    /// Everything that is wrong; paths begin with the kind, as `call.path`.
    pub(crate) fn parse(does: &Map<String, Json>) -> Result<Self, Vec<registry::Fault>> {
        let Some((kind, body)) = does.iter().next() else {
            // The registry has refused it by its number of keys.
            return Err(vec![registry::Fault::new("", "does nothing", "give one kind of step")]);
        };
        match Self::parse_kind(kind, body) {
            Some(parsed) => parsed.map_err(|faults| below(kind, faults)),
            None => {
                let known = KINDS.join(", ");
                let mend = match registry::nearest(kind, KINDS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`? known are {known}"),
                    None => format!("known are {known}"),
                };
                Err(vec![registry::Fault::new(kind.as_str(), "is no kind of step", mend)])
            }
        }
    }
}

/// Puts faults below a key.
pub(crate) fn below(key: &str, faults: Vec<registry::Fault>) -> Vec<registry::Fault> {
    let put = |fault: registry::Fault| {
        let dot = if fault.path.is_empty() || fault.path.starts_with('[') { "" } else { "." };
        registry::Fault { path: format!("{key}{dot}{}", fault.path), ..fault }
    };
    faults.into_iter().map(put).collect()
}

/// Compiles an expression of a step's key.
fn expression(key: &str, text: &str) -> Result<Expression, Vec<registry::Fault>> {
    Expression::compile(text)
        .map_err(|what| vec![registry::Fault::new(key, what, "mend the expression")])
}

/// Compiles a template of a step's key.
fn template(key: &str, text: &str, language: Language) -> Result<Template, Vec<registry::Fault>> {
    Template::compile(text, language)
        .map_err(|what| vec![registry::Fault::new(key, what, "mend the template")])
}
