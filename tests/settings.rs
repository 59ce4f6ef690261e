//! The tables of flags in `docs/configuration.md` are those that the table of settings generates.

use std::fs;

use bfb::settings::{sidecar_flags_table, webhook_flags_table};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

/// `page` with `table` between its markers.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- begin {name}: `UPDATE_DOCS=1 cargo test settings` writes it -->\n");
    let end = format!("<!-- end {name} -->\n");
    let (before, rest) = page.split_once(&begin).expect("the page says where the table begins");
    let (_, after) = rest.split_once(&end).expect("the page says where the table ends");
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn the_page_holds_the_tables_of_flags() {
    let page = fs::read_to_string(PAGE).unwrap();
    let right = with_table(&page, "flags of serve", &sidecar_flags_table());
    let right = with_table(&right, "flags of webhook", &webhook_flags_table());
    if page != right && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &right).unwrap();
    } else {
        assert_eq!(page, right, "`UPDATE_DOCS=1 cargo test settings` writes it");
    }
}
