//! Chromium, as people see the console with it.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rig::Driver;
use serde_json::json;

pub(crate) struct Browser {
    driver: Driver,
    pub(crate) client: Client,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let driver = Driver::start().unwrap();
        let options = json!({
            "goog:chromeOptions": {"args": ["--headless=new", "--no-sandbox", "--hide-scrollbars"]},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(options.as_object().unwrap().clone());
        let client = client.connect(&driver.url()).await.unwrap();
        client.set_window_size(1_280, 1_000).await.unwrap();
        Self { driver, client }
    }

    pub(crate) async fn stop(self) {
        self.client.close().await.unwrap();
        self.driver.stop().unwrap();
    }

    /// Keeps a picture of the whole page where `KEEP_PICTURES` says, to be looked at.
    pub(crate) async fn keep(&self, name: &str) {
        let Some(dir) = std::env::var_os("KEEP_PICTURES").map(PathBuf::from) else { return };
        let look =
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]";
        let size = self.client.execute(look, Vec::new()).await.unwrap();
        let (width, height) = (size[0].as_u64().unwrap(), size[1].as_u64().unwrap());
        let (width, height) = (u32::try_from(width).unwrap(), u32::try_from(height).unwrap());
        self.client.set_window_size(width, height + 150).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(dir.join(format!("{name}.png")), picture).unwrap();
        self.client.set_window_size(width, 1_000).await.unwrap();
    }
}
