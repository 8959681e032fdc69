mod print;

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use ingest::registry::Name;
use mediator::deliver::LETTERS_MAX;
use serde_json::{Value, json};

use super::admin::{self, Api};
use super::answer;
use crate::cli::{Failure, Settings};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how far every queue is: what waits, what is held, what is paused
    Queues {
        /// One queue only
        queue: Option<Name>,
    },
    /// Let no attempt of a queue begin, on any node; messages are still accepted
    Pause {
        /// The queue
        queue: Name,
        /// Why, for who looks at it later
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let the attempts of a paused queue begin again
    Resume {
        /// The queue
        queue: Name,
    },
    /// List messages that had an attempt and wait: for the next, or for a decision
    Waiting {
        /// The queue
        queue: Name,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// List messages that wait for the time when they go into the queue, the soonest first
    Scheduled {
        /// The queue
        queue: Name,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Make the next attempt of messages that wait, or are scheduled, at once, and count
    /// attempts anew
    #[command(override_usage = "weir deliveries retry [OPTIONS] <QUEUE> <IDS...|--held>")]
    Retry {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: WhichWaiting,
    },
    /// Make no attempt more of messages that wait, or are scheduled: they go to the dead letters
    #[command(override_usage = "weir deliveries give-up [OPTIONS] <QUEUE> <IDS...|--held>")]
    GiveUp {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: WhichWaiting,
    },
    /// List messages that have ended, the latest first; of a queue that has a history_ms
    History {
        /// The queue
        queue: Name,
        /// Those that were accepted from then on: an RFC 3339 time
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Those that were accepted before then
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Send messages that have ended again: into their queue, or another one
    #[command(
        override_usage = "weir deliveries resend [OPTIONS] <QUEUE> <IDS...|--since TIME|--until TIME|--sql QUERY>"
    )]
    Resend {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: WhichPast,
        /// The queue that they go into; the same one, if it is left out
        #[arg(long, value_name = "QUEUE")]
        to: Option<Name>,
        /// As new messages: a receiver that remembers the ids of the old ones takes them
        #[arg(long)]
        new_ids: bool,
    },
    /// List the dead letters of a queue that nobody has decided of, oldest first
    List {
        /// The queue
        queue: Name,
        /// At most so many, 1 to 1,000
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show the dead letters of one message, with their bodies
    Show {
        /// The queue
        queue: Name,
        /// The message's id
        id: String,
    },
    /// Put dead letters back into their queue, with the same ids, behind what it has
    #[command(
        override_usage = "weir deliveries replay [OPTIONS] <QUEUE> <IDS...|--all|--since TIME|--until TIME|--sql QUERY>"
    )]
    Replay {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: Which,
        /// A file that goes in the place of the body; for one letter only
        #[arg(long, value_name = "FILE", conflicts_with = "sql")]
        body: Option<PathBuf>,
        /// The media type of that file; as before, if it is left out
        #[arg(long, value_name = "TYPE", requires = "body")]
        content_type: Option<String>,
    },
    /// Decide that dead letters stay dead: they are listed no more
    #[command(
        override_usage = "weir deliveries drop [OPTIONS] <QUEUE> <IDS...|--all|--since TIME|--until TIME|--sql QUERY>"
    )]
    Drop {
        /// The queue
        queue: Name,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
#[group(required = true)]
struct Which {
    /// The ids of the messages
    ids: Vec<String>,
    /// All that are there now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Those that were given up from then on: an RFC 3339 time
    #[arg(long, value_name = "TIME", conflicts_with_all = ["ids", "all"])]
    since: Option<String>,
    /// Those that were given up before then
    #[arg(long, value_name = "TIME", conflicts_with_all = ["ids", "all"])]
    until: Option<String>,
    /// Those whose ids a query answers, such as SELECT DISTINCT messaging_message_id FROM
    /// events WHERE …; ids that are no dead letters are passed over
    #[arg(long, value_name = "QUERY", conflicts_with_all = ["ids", "all", "since", "until"])]
    sql: Option<String>,
    /// The analytics node that answers it; as the settings say, if it is left out
    #[arg(long, value_name = "URL", requires = "sql")]
    query_server: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true)]
struct WhichPast {
    /// The ids of the messages
    ids: Vec<String>,
    /// Those that were accepted from then on: an RFC 3339 time
    #[arg(long, value_name = "TIME", conflicts_with = "ids")]
    since: Option<String>,
    /// Those that were accepted before then
    #[arg(long, value_name = "TIME", conflicts_with = "ids")]
    until: Option<String>,
    /// Those whose ids a query answers, such as SELECT DISTINCT messaging_message_id FROM
    /// events WHERE …; ids that are not in the history are passed over
    #[arg(long, value_name = "QUERY", conflicts_with_all = ["ids", "since", "until"])]
    sql: Option<String>,
    /// The analytics node that answers it; as the settings say, if it is left out
    #[arg(long, value_name = "URL", requires = "sql")]
    query_server: Option<String>,
}

impl WhichPast {
    /// What is asked of the admin API: all at once, so that the order is that of the queue.
    fn wish(&self, settings: &Settings, options: &admin::Options) -> Result<Value, Failure> {
        if let Some(sql) = &self.sql {
            let server = self.query_server.as_deref();
            let ids = answer::texts(settings, server, options.token_file(), sql.clone())?;
            return Ok(json!({"ids": ids, "skip_missing": true}));
        }
        let mut wish = json!({});
        if !self.ids.is_empty() {
            wish["ids"] = json!(self.ids);
        }
        for (name, time) in times(&self.since, &self.until) {
            wish[name] = time.into();
        }
        Ok(wish)
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichWaiting {
    /// The ids of the messages
    ids: Vec<String>,
    /// All that are held
    #[arg(long)]
    held: bool,
}

impl Which {
    /// What is asked of the admin API: more than once where a query answers many ids.
    fn wishes(&self, settings: &Settings, options: &admin::Options) -> Result<Vec<Value>, Failure> {
        let Some(sql) = &self.sql else {
            let mut wish = json!({});
            if self.all {
                wish["all"] = true.into();
            }
            if !self.ids.is_empty() {
                wish["ids"] = json!(self.ids);
            }
            for (name, time) in [("died_since", &self.since), ("died_until", &self.until)] {
                if let Some(time) = time {
                    wish[name] = time.as_str().into();
                }
            }
            return Ok(vec![wish]);
        };
        let server = self.query_server.as_deref();
        let ids = answer::texts(settings, server, options.token_file(), sql.clone())?;
        let wish = |ids: &[String]| json!({"ids": ids, "skip_missing": true});
        Ok(ids.chunks(LETTERS_MAX).map(wish).collect())
    }

    /// Asks for all of it, each with `more`; answers how many were settled.
    fn settle(
        &self,
        (settings, options): (&Settings, &Options),
        api: &Api,
        path: &str,
        more: &Value,
    ) -> Result<Value, Failure> {
        let mut settled = 0;
        for mut wish in self.wishes(settings, &options.admin)? {
            for (name, value) in more.as_object().into_iter().flatten() {
                wish[name] = value.clone();
            }
            let answer = api.post(path, &wish);
            let answer = answer.map_err(|failure| match settled {
                0 => failure,
                _ => failure.context(format!("{settled} were settled before this")),
            })?;
            settled += answer["settled"].as_u64().unwrap_or(0);
        }
        Ok(json!({"settled": settled}))
    }
}

/// Those of the two times that were given, by their names.
fn times<'a>(
    since: &'a Option<String>,
    until: &'a Option<String>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let times = [("since", since), ("until", until)];
    times.into_iter().filter_map(|(name, time)| Some((name, time.as_deref()?)))
}

impl WhichWaiting {
    fn wish(&self) -> Value {
        match self.held {
            true => json!({"held": true}),
            false => json!({"ids": self.ids}),
        }
    }
}

/// Shows how far queues are, or decides what becomes of their messages.
pub(crate) fn run(settings: &Settings, options: &Options) -> Result<(), Failure> {
    let api = Api::open(settings, &options.admin)?;
    let path = |queue: &Name, rest: &str| format!("/admin/v1/queues/{queue}{rest}");
    let limited = |limit: &usize| [("limit", limit.to_string())];
    let answer = match &options.action {
        Action::Queues { queue: None } => api.get("/admin/v1/queues", &[])?,
        Action::Queues { queue: Some(queue) } => api.get(&path(queue, ""), &[])?,
        Action::Pause { queue, reason } => {
            api.post(&path(queue, "/pause"), &json!({"reason": reason}))?
        }
        Action::Resume { queue } => api.post(&path(queue, "/resume"), &json!({}))?,
        Action::Waiting { queue, limit } => api.get(&path(queue, "/waiting"), &limited(limit))?,
        Action::Scheduled { queue, limit } => {
            api.get(&path(queue, "/scheduled"), &limited(limit))?
        }
        Action::Retry { queue, which } => {
            api.post(&path(queue, "/waiting/retry"), &which.wish())?
        }
        Action::GiveUp { queue, which } => {
            api.post(&path(queue, "/waiting/give-up"), &which.wish())?
        }
        Action::History { queue, since, until, limit } => {
            let times = times(since, until).map(|(name, time)| (name, time.to_owned()));
            let asked: Vec<_> = limited(limit).into_iter().chain(times).collect();
            api.get(&path(queue, "/history"), &asked)?
        }
        Action::Resend { queue, which, to, new_ids } => {
            let mut wish = which.wish(settings, &options.admin)?;
            wish["to"] = to.as_ref().unwrap_or(queue).as_str().into();
            wish["new_ids"] = (*new_ids).into();
            api.post(&path(queue, "/history/resend"), &wish)?
        }
        Action::List { queue, limit } => api.get(&path(queue, "/dead"), &limited(limit))?,
        Action::Show { queue, id } => api.get(&path(queue, "/dead"), &[("id", id.clone())])?,
        Action::Replay { queue, which, body, content_type } => {
            let mut more = json!({});
            if let Some(file) = body {
                let read = std::fs::read(file);
                let read = read.with_context(|| format!("read the body {}", file.display()));
                more["body_base64"] = STANDARD.encode(read.map_err(Failure::Usage)?).into();
            }
            if let Some(content_type) = content_type {
                more["content_type"] = content_type.as_str().into();
            }
            which.settle((settings, options), &api, &path(queue, "/dead/replay"), &more)?
        }
        Action::Drop { queue, which } => {
            let path = path(queue, "/dead/drop");
            which.settle((settings, options), &api, &path, &json!({}))?
        }
    };
    if options.admin.json {
        println!("{answer}");
        return Ok(());
    }
    let letters = |key: &str| print::counted(&answer[key], "dead letter");
    let messages = || print::counted(&answer["ordered"], "message");
    match &options.action {
        Action::Queues { queue: None } => {
            print::queues(answer["queues"].as_array().map_or(&[], Vec::as_slice));
        }
        Action::Queues { queue: Some(_) } => print::queues(&[answer]),
        Action::Pause { queue, .. } => {
            println!("queue {queue} is paused; weir deliveries resume {queue} lets it go on");
        }
        Action::Resume { queue } => println!("queue {queue} goes on"),
        Action::Waiting { queue, .. } => print::waiting(queue, &answer),
        Action::Scheduled { queue, .. } => print::scheduled(queue, &answer),
        Action::Retry { queue, .. } => {
            println!("{} of queue {queue} will be tried again", messages())
        }
        Action::GiveUp { queue, .. } => {
            println!("{} of queue {queue} will be given up, to the dead letters", messages());
        }
        Action::History { queue, .. } => print::history(queue, &answer),
        Action::Resend { queue, to, .. } => {
            let sent = print::counted(&answer["sent"], "message");
            println!("{sent} sent again into queue {}", to.as_ref().unwrap_or(queue));
        }
        Action::List { queue, .. } => print::dead(queue, &answer),
        Action::Show { .. } => print::letters(&answer),
        Action::Replay { queue, .. } => {
            println!("{} put back into queue {queue}", letters("settled"));
        }
        Action::Drop { queue, .. } => println!("{} of queue {queue} dropped", letters("settled")),
    }
    Ok(())
}
