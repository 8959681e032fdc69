//! Words of events, as people look for them in a browser.

use fantoccini::Locator;

use crate::browser::Browser;
use crate::queues::{click, reads};
use crate::replay::until;
use crate::weir::Weir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_searched_for_in_a_browser() {
    let mut weir = Weir::new();
    weir.start(&[]);
    for path in ["/nothing/of/the/kind", "/site/zebrafish/4711?colour=blue", "/site/zebrafish/4712"]
    {
        weir.client.get(weir.gateway(path)).send().await.unwrap();
    }
    let token = weir.token(&weir.secret()).await;
    // One that fails on its way has several events of one correlation id.
    let order = serde_json::json!({"article": "nut"});
    let (status, _) = weir.post("/shop/1/orders", &token, &order).await.unwrap();
    assert!(status >= 400, "{status}");
    let failed = "SELECT count(*) AS events FROM events WHERE fault_message IS NOT NULL";
    until(&weir, failed, |row| row["events"].as_i64() > Some(0)).await;

    let browser = Browser::start().await;
    let client = &browser.client;
    client.goto(&weir.console("/search")).await.unwrap();
    reads(client, "admin-token").await;
    let field = client.find(Locator::Css("input[name=token]")).await.unwrap();
    field.send_keys(&weir.read_token("admin-token")).await.unwrap();
    click(client, "form button").await;
    reads(client, "Every word that events say").await;
    let look = "const wide = document.documentElement; return wide.scrollWidth - wide.clientWidth";
    let ask = async |text: &str| {
        let field = client.find(Locator::Css("input[name=q]")).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
        click(client, ".search button").await;
    };
    ask("zebrafish").await;
    let page = reads(client, "2 events").await;
    assert!(page.contains("GET /site/zebrafish/4711") && page.contains("4712"), "{page}");
    ask("zebrafish 4711").await;
    let page = reads(client, "1 event.").await;
    assert!(page.contains("GET /site/zebrafish/4711") && !page.contains("4712"), "{page}");
    ask("http://host").await;
    reads(client, "there is no field http to search in").await;
    browser.keep("search-wrong").await;
    ask("nowhere").await;
    reads(client, "No event says that in this time.").await;
    // From an error to all that happened on its way.
    ask("error:orders OR error:key OR error:customer OR about:order").await;
    let page = reads(client, "All events of").await;
    browser.keep("search").await;
    let link = client.find(Locator::XPath("//a[contains(., 'All events of')]")).await.unwrap();
    link.click().await.unwrap();
    let way = reads(client, "request").await;
    assert!(way.contains("/shop/1/orders"), "{page}\n\n{way}");
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("search-way").await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(client.execute(look, Vec::new()).await.unwrap(), 0);
    browser.keep("search-narrow").await;
    browser.stop().await;
    weir.stop();
}
