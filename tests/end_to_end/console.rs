//! The boards, as people see them: in a browser, as files, and refused to others.

use std::time::{Duration, Instant};

use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::replay::{found, until};
use crate::weir::{PATIENCE, Weir};

async fn replayed() -> Weir {
    let mut weir = Weir::new();
    weir.set("WEIR_EXAMPLE__REPLAY", "true");
    weir.start(&[]);
    let began = Instant::now();
    while !weir.said().contains("The example has sent its access log:") {
        assert!(began.elapsed() < PATIENCE, "{}", weir.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Sent is not yet seen: its events are on their way through the log.
    let seen =
        "SELECT count(*) AS events FROM events WHERE kind = 'request' AND replay_id IS NOT NULL";
    until(&weir, seen, |seen| seen["events"] == 10_000).await;
    // The board lists what detections found, which is known when the windows have closed.
    let alerts = found(|is_told| is_told).len();
    let known = "SELECT count(*) AS alerts FROM alerts WHERE replay_id IS NOT NULL";
    until(&weir, known, |known| known["alerts"] == alerts).await;
    weir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_is_shown_only_to_who_has_the_token() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let (right, page) = (weir.read_token("console-token"), weir.console("/boards/traffic"));
    let client = reqwest::Client::builder();
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |url: &str| client.get(url).header("accept", "text/html");
    let answer = get(&page).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    assert!(answer.text().await.unwrap().contains("name=\"token\""), "the token is asked for");
    let answer = get(&page).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(get(&page).bearer_auth(&right).send().await.unwrap().status(), 200);

    // The token in an address opens a session, and is gone from it.
    let answer = get(&format!("{page}?token={right}")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (303, &"/boards/traffic".parse().unwrap())
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(get(&page).header("cookie", cookie).send().await.unwrap().status(), 200);
    let wrong = get(&format!("{page}?token=wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers().get("set-cookie").is_none());
    // By another site's name nobody gets in, whatever they have.
    let rebound = get(&page).bearer_auth(&right).header("host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), 421);

    let span = get(&format!("{page}?span=soon")).bearer_auth(&right).send().await.unwrap();
    assert_eq!(span.status(), 400);
    assert!(span.text().await.unwrap().contains("15m, 1h, 6h, 24h, 7d, all"));
    let other = weir.console("/boards/other");
    let other = get(&other).bearer_auth(&right).send().await.unwrap();
    assert_eq!(other.status(), 404);
    // A timeline's name is a text, whatever is in it.
    let odd = get(&format!("{page}?timeline=%27%20OR%20true--%3Cb%3E")).bearer_auth(&right);
    let odd = odd.send().await.unwrap().text().await.unwrap();
    assert!(odd.contains("Nothing in this time.") && !odd.contains("--<b>"), "{odd}");
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_is_taken_away_as_page_picture_and_numbers() {
    let mut weir = replayed().await;
    let out = |name: &str| weir.dir().join(name).display().to_string();
    let export = |arguments: &[&str]| weir.run(&[&["export", "board"], arguments].concat());
    let (html, png, csv) = (out("b.html"), out("b.png"), out("b.csv"));
    let dark = out("dark.png");
    for arguments in [&[html.as_str()][..], &[&png], &[&csv], &[&dark, "--theme", "dark"]] {
        let (code, said) = export(&[&["traffic", "--out"], arguments].concat());
        assert_eq!(code, 0, "{said}");
    }
    let html = std::fs::read_to_string(html).unwrap();
    for part in
        ["10,000", "1,753 clients", "2.75 GB", "17 May 2015, 10:00", "<svg", "prefers-color-scheme"]
    {
        assert!(html.contains(part), "{part}");
    }
    let html = html.replace("url(data:font/otf;base64,", "");
    for part in ["<script", "<link", "<img", "src=", "href=\"http", "url(", "@import"] {
        assert!(!html.contains(part), "it needs nothing else: {part}");
    }
    let (png, dark) = (std::fs::read(png).unwrap(), std::fs::read(dark).unwrap());
    assert_eq!((dark[..24] == png[..24], dark == png), (true, false), "of one size");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(u32::from_be_bytes(png[16..20].try_into().unwrap()), 2_480, "its width");
    assert!(png.len() > 100_000, "there is something on it: {}", png.len());
    let csv = std::fs::read_to_string(csv).unwrap();
    let requests = csv.split("Requests by status\r\n").nth(1).unwrap();
    let table: Vec<&str> = requests.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!((table[0], table.len()), ("time,ok,moved,client,server", 85), "{table:?}");
    let ok: u64 =
        table[1..].iter().map(|row| row.split(',').nth(1).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(ok, 9_126 + 45);
    assert!(csv.contains("\r\nvalue (us),for half of them (us)\r\n"), "{csv:.2000}");

    let (code, said) = export(&["traffic"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--format html, png or csv"), "{said}");
    let (code, said) = export(&["none", "--format", "csv"]);
    assert_eq!((code, said.contains("no board none")), (2, true), "{said}");
    weir.stop();
}

/// The numbers of a column of one table of an exported board.
fn column(csv: &str, title: &str, column: &str) -> Vec<u64> {
    let table = csv.split("\r\n\r\n").find(|table| table.starts_with(title)).unwrap();
    let mut lines = table.lines().skip(1);
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = names.iter().position(|name| *name == column).unwrap_or_else(|| panic!("{table}"));
    lines.map(|line| line.split(',').nth(at).unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_panels_of_a_board_are_of_the_same_events() {
    let mut weir = Weir::new();
    weir.start(&[]);
    let (client, url) = (weir.client.clone(), weir.gateway("/site/"));
    let asking = tokio::spawn(async move {
        loop {
            assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
        }
    });
    let mut before = 0;
    for _ in 0..5 {
        let arguments = ["export", "board", "traffic", "--format", "csv", "--timeline", "live"];
        let (code, csv) = weir.run(&arguments);
        assert_eq!(code, 0, "{csv}");
        let requests = column(&csv, "Requests\r\n", "value")[0];
        let of_status = ["ok", "moved", "client", "server"]
            .map(|of| column(&csv, "Requests by status\r\n", of).into_iter().sum::<u64>());
        let of_clients = column(&csv, "Busiest clients\r\n", "requests").into_iter().sum::<u64>();
        let of_apis = column(&csv, "APIs\r\n", "requests").into_iter().sum::<u64>();
        let all = [of_status.iter().sum(), of_clients, of_apis];
        assert_eq!(all, [requests; 3], "{csv}");
        assert!(requests > before, "there is traffic meanwhile: {requests}");
        before = requests;
    }
    asking.abort();
    weir.stop();
}

/// What a page has of it: its width and what is wider, the texts of its panels, and what
/// its console said.
async fn seen(client: &Client) -> Value {
    let look = "
        const wide = document.documentElement;
        const texts = [...document.querySelectorAll('.panel')].map((of) => of.innerText);
        return {overflow: wide.scrollWidth - wide.clientWidth, texts,
                state: document.querySelector('.said').textContent,
                ground: getComputedStyle(document.body).backgroundColor};";
    client.execute(look, Vec::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_in_a_browser_shows_what_happened_and_follows_what_happens() {
    let mut weir = replayed().await;
    let browser = Browser::start().await;
    let client = &browser.client;
    // The address that is printed.
    let said = weir.said();
    let printed = said.lines().find(|line| line.contains("/?token=")).unwrap().trim();
    client.goto(printed).await.unwrap();
    let began = Instant::now();
    let page = loop {
        let page = seen(client).await;
        if page["state"].as_str().unwrap().starts_with("live, ") {
            break page;
        }
        assert!(began.elapsed() < PATIENCE, "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(!client.current_url().await.unwrap().as_str().contains("token"));
    assert_eq!(page["overflow"], 0, "{page}");
    let panel = |page: &Value, title: &str| {
        let texts = page["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        let mut texts = texts.filter(|text| text.starts_with(title));
        texts.next().unwrap_or_else(|| panic!("{title}: {page}")).to_owned()
    };
    assert!(panel(&page, "Requests\n").contains("10,000\n\n1,753 clients"), "{page}");
    assert!(panel(&page, "APIs").contains("site 1"), "{page}");
    assert!(panel(&page, "Busiest clients").contains("66.249.73.135"), "{page}");

    // The numbers under the pointer.
    client.execute(MOVE, Vec::new()).await.unwrap();
    let tip = client.find(Locator::Css(".tip:not([hidden])")).await.unwrap().text().await.unwrap();
    assert!(tip.contains("2015") && tip.contains("2xx"), "{tip}");
    browser.keep("light").await;

    // Dark, by a click; and on a telephone.
    let before = page["ground"].clone();
    client.find(Locator::Css(".theme")).await.unwrap().click().await.unwrap();
    let dark = seen(client).await;
    assert_ne!(dark["ground"], before);
    browser.keep("dark").await;
    client.set_window_size(500, 1_000).await.unwrap();
    assert_eq!(seen(client).await["overflow"], 0);
    browser.keep("narrow").await;

    // Live traffic appears without a hand at it.
    client.set_window_size(1_280, 1_000).await.unwrap();
    client.goto(&weir.console("/boards/traffic?timeline=live&span=15m")).await.unwrap();
    for _ in 0..7 {
        assert_eq!(weir.client.get(weir.gateway("/site/")).send().await.unwrap().status(), 200);
    }
    let token = weir.token(&weir.secret()).await;
    let order = json!({"customer": "ada", "article": "nut", "pieces": 2});
    let (status, _) = weir.post("/shop/orders", &token, &order).await.unwrap();
    assert_eq!(status, 202);
    let began = Instant::now();
    loop {
        let page = seen(client).await;
        let account = panel(&page, "Every message accounted for");
        if panel(&page, "Requests\n").contains("\n8\n")
            && account.contains("orders")
            && account.contains("holds")
        {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    browser.keep("live").await;
    browser.stop().await;
    weir.stop();
}

/// Moves the pointer to the middle of the first chart.
const MOVE: &str = "
    const drawn = document.querySelector('.drawn');
    const at = drawn.getBoundingClientRect();
    drawn.dispatchEvent(new PointerEvent('pointermove',
        {bubbles: true, clientX: at.left + at.width / 2, clientY: at.top + 60}));";
