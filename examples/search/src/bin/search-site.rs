//! Serves the example's site, for the worker to search: prints its address and serves until Ctrl-C.

use phasework_example_search::site::Site;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let site = Site::start()?;
    println!("{}", site.url());
    Ok(tokio::signal::ctrl_c().await?)
}
