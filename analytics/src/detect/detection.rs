use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use minijinja::{Environment, UndefinedBehavior};

use serde_json::Value;

use super::Column;
use crate::query::{Act, Fault, Order, QueryFile, Severity, WINDOW_END, WINDOW_START};

/// How long nothing has to be found until an alert is over, if the file does not say.
const QUIET: Duration = Duration::from_hours(1);
/// The column by which a finding says how bad it is.
pub(super) const SEVERITY: &str = "severity";
/// How many steps the text of an alert may take.
const FUEL: u64 = 20_000;
/// The longest text of an alert, in bytes; what is longer is cut.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// What turns the rows of a query into alerts.
#[derive(Debug)]
pub struct Detection {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) owner: String,
    severity: Severity,
    pub(super) recipients: Vec<String>,
    pub(super) subject: String,
    pub(super) quiet_us: i64,
    /// In which order its windows answer.
    pub(super) order: Order,
    message: String,
    act: Option<Act>,
    environment: Arc<Environment<'static>>,
}

impl Detection {
    /// The detection of a query file, if it is one, over the columns that its query gives, and
    /// of windows that answer in this order.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn of(
        file: &QueryFile,
        columns: &SchemaRef,
        order: Order,
    ) -> Result<Option<Self>, Vec<Fault>> {
        let header = &file.header;
        let Some(severity) = header.severity else { return Ok(None) };
        let mut faults = Vec::new();
        for name in [WINDOW_START, WINDOW_END] {
            if columns.index_of(name).is_err() {
                faults.push(Fault::of_file(format!("gives no column {name}"), "select it"));
            }
        }
        let subject = header.subject.clone().unwrap_or_default();
        match columns.field_with_name(&subject) {
            Ok(field) if *field.data_type() == DataType::Utf8 => {}
            Ok(_) => {
                let what = format!("subject: {subject} is no text");
                faults.push(file.fault("subject", what, "cast it to VARCHAR"));
            }
            Err(_) => {
                let what = format!("subject: the query gives no column {subject}");
                faults.push(file.fault("subject", what, "name one that it selects"));
            }
        }
        if let Ok(field) = columns.field_with_name(SEVERITY)
            && *field.data_type() != DataType::Utf8
        {
            let what = format!("the column {SEVERITY} is no text");
            faults.push(Fault::of_file(what, "give low, medium, high or critical"));
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("grouped", |number: i64| super::evidence::grouped(number));
        let message = header.message.clone().unwrap_or_default();
        match environment.template_from_str(&message) {
            Ok(template) => {
                let mut unknown: Vec<String> =
                    template.undeclared_variables(false).into_iter().collect();
                unknown.retain(|name| columns.index_of(name).is_err());
                unknown.sort();
                for name in unknown {
                    let what = format!("message: the query gives no column {name}");
                    faults.push(file.fault("message", what, "name one that it selects"));
                }
            }
            Err(error) => {
                let what = format!("message: {error}");
                faults.push(file.fault("message", what, "write columns as {{ name }}"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let quiet = header.quiet.unwrap_or(QUIET);
        Ok(Some(Self {
            name: file.name.clone(),
            title: header.title.clone(),
            owner: header.owner.clone(),
            severity,
            recipients: header.recipients.clone(),
            subject,
            order,
            quiet_us: i64::try_from(quiet.as_micros()).unwrap_or(i64::MAX),
            message,
            act: header.action.clone(),
            environment: Arc::new(environment),
        }))
    }

    /// In which order its windows answer.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// What is decided of the subject of a finding.
    pub(crate) fn act(&self) -> Option<&Act> {
        self.act.as_ref()
    }

    /// How bad a finding is: as its column `severity` says, else as the file does.
    pub(super) fn severity(&self, found: &[Column]) -> Severity {
        let own = found.iter().find(|of| of.name == SEVERITY);
        let own = own.and_then(|of| serde_json::from_value(of.value.clone()).ok());
        own.unwrap_or(self.severity)
    }

    /// What happened, in a sentence. A text that cannot be made must not cost the alert.
    pub(super) fn message(&self, evidence: &[Column]) -> String {
        let variables = evidence.iter().map(|of| (of.name.as_str(), shown(&of.value)));
        let variables = minijinja::Value::from_pairs(variables);
        let mut message = match self.environment.render_str(&self.message, variables) {
            Ok(message) => message.trim().to_owned(),
            Err(error) => {
                tracing::error!(detection = self.name, %error, "the text of an alert cannot be made");
                format!("{}.", self.title)
            }
        };
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - 3));
            message.push('…');
        }
        message
    }
}

fn shown(value: &Value) -> minijinja::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(value) => match value.as_i64() {
            Some(value) => value.into(),
            None => value.as_f64().into(),
        },
        Value::String(value) => value.as_str().into(),
        _ => ().into(),
    }
}
