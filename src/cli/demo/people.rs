//! The words that the demo's data is made of.

use super::money::Money;

pub(super) const FIRST_NAMES: [&str; 24] = [
    "Ada", "Amir", "Björn", "Carla", "Chen", "Dana", "Elif", "Emeka", "Farah", "Goran", "Hana",
    "Ines", "Jonas", "Kofi", "Lena", "Luca", "Mei", "Nadia", "Oskar", "Priya", "Rosa", "Samuel",
    "Tomás", "Zofia",
];

pub(super) const LAST_NAMES: [&str; 24] = [
    "Adeyemi",
    "Almeida",
    "Becker",
    "Chandra",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Haddad",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Quispe",
    "Rossi",
    "Schmidt",
    "Tanaka",
    "Ueda",
    "Varga",
    "Weber",
];

pub(super) const SEGMENTS: [&str; 4] = ["regular", "plus", "premium", "business"];

/// What the shop sells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    pub(super) price: Money,
}

const fn product(sku: &'static str, name: &'static str, cents: u64) -> Product {
    Product { sku, name, price: Money(cents) }
}

pub(super) const PRODUCTS: [Product; 16] = [
    product("BAG-0117", "Canvas backpack", 7_450),
    product("BIK-0402", "Bicycle lamp", 3_995),
    product("BOT-0033", "Steel water bottle", 2_490),
    product("CAM-0009", "Instant camera", 12_990),
    product("CHA-0210", "Reading chair", 34_900),
    product("COF-0051", "Pour-over coffee set", 4_550),
    product("HEA-0301", "Over-ear headphones", 18_990),
    product("KEY-0075", "Mechanical keyboard", 11_900),
    product("KNI-0018", "Chef's knife", 8_980),
    product("LAM-0144", "Desk lamp", 5_900),
    product("NOT-0005", "Dotted notebook", 1_250),
    product("PAN-0062", "Cast-iron pan", 6_400),
    product("SHO-0230", "Trail running shoes", 13_900),
    product("TEN-0012", "Two-person tent", 24_950),
    product("UMB-0101", "Storm umbrella", 3_200),
    product("WAT-0088", "Field watch", 15_900),
];

/// What a review with so many stars (index 0 is one star) may say.
pub(super) const OPINIONS: [[&str; 2]; 5] = [
    ["Broke within a week.", "Not what the pictures show."],
    ["Works, but feels cheap.", "Arrived late and scratched."],
    ["Does what it should, no more.", "Fine for the price."],
    ["Well made, I use it every day.", "Very good, one small flaw in the finish."],
    ["The best that I have owned.", "Bought a second one as a present."],
];
