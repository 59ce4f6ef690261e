//! The demo's data: what each upstream knows of a customer, as a pure function of seed, customer
//! and revision.
//!
//! The same three always give the same bytes, on every machine and in every run. A higher revision
//! changes what is newest (the loyalty points; the first favorite, review or order) and leaves the
//! rest.

use serde::Serialize;

use super::money::Money;
use super::people::{FIRST_NAMES, LAST_NAMES, OPINIONS, PRODUCTS, Product, SEGMENTS};

/// Customers 1 to this exist.
pub(super) const CUSTOMERS: u32 = 1_000;

const FIRST_ACCOUNT: u32 = 500_000;
/// Accounts are not numbered like customers, so that orders cannot be asked for without the
/// profile.
const ACCOUNT_STEP: u32 = 37;

/// The day of whatever a change added.
const LATEST: &str = "2026-11-22";

/// `GET /customers/{id}` of `profile`.
#[derive(Debug, Serialize)]
pub(super) struct Profile {
    id: u32,
    name: String,
    email: String,
    segment: &'static str,
    loyalty: Loyalty,
    account_id: String,
    since: String,
}

#[derive(Debug, Serialize)]
struct Loyalty {
    tier: &'static str,
    points: u64,
}

/// One of `GET /customers/{id}/favorites`.
#[derive(Debug, Serialize)]
pub(super) struct Favorite {
    sku: &'static str,
    name: &'static str,
    price: Money,
    added: String,
}

/// One of `GET /customers/{id}/reviews`.
#[derive(Debug, Serialize)]
pub(super) struct ProductReview {
    id: String,
    sku: &'static str,
    stars: u8,
    text: &'static str,
    written: String,
}

/// One of `GET /accounts/{account_id}/orders`.
#[derive(Debug, Serialize)]
pub(super) struct Order {
    id: String,
    placed: String,
    status: &'static str,
    items: Vec<OrderItem>,
    total: Money,
}

#[derive(Debug, Serialize)]
struct OrderItem {
    sku: &'static str,
    name: &'static str,
    quantity: u32,
    price: Money,
}

/// The account of a customer.
pub(super) fn account_of(customer: u32) -> String {
    format!("A-{}", FIRST_ACCOUNT + customer * ACCOUNT_STEP)
}

/// The customer of an account, if there is such an account.
pub(super) fn customer_of(account: &str) -> Option<u32> {
    let number: u32 = account.strip_prefix("A-")?.parse().ok()?;
    let customer = number.checked_sub(FIRST_ACCOUNT)? / ACCOUNT_STEP;
    ((1..=CUSTOMERS).contains(&customer) && account_of(customer) == account).then_some(customer)
}

pub(super) fn profile(seed: u64, customer: u32, revision: u64) -> Profile {
    let mut dice = Dice::new(seed, b'p', customer, 1);
    let (first, last) = (dice.pick(&FIRST_NAMES), dice.pick(&LAST_NAMES));
    let points = dice.below(6_000) + 50 * (revision - 1);
    let tier = match points {
        0..1_000 => "bronze",
        1_000..3_000 => "silver",
        3_000..5_000 => "gold",
        _ => "platinum",
    };
    Profile {
        id: customer,
        name: format!("{first} {last}"),
        email: format!("{}.{}{customer}@mail.example", ascii(first), ascii(last)),
        segment: dice.pick(&SEGMENTS),
        loyalty: Loyalty { tier, points },
        account_id: account_of(customer),
        since: format!(
            "{}-{:02}-{:02}",
            2015 + dice.below(9),
            1 + dice.below(12),
            1 + dice.below(28)
        ),
    }
}

/// `None` (a 404 to who asks) for each tenth customer, who never had a list, until a change begins
/// one.
pub(super) fn favorites(seed: u64, customer: u32, revision: u64) -> Option<Vec<Favorite>> {
    if customer % 10 == 7 && revision == 1 {
        return None;
    }
    let mut dice = Dice::new(seed, b'f', customer, 1);
    let dates = past_days(&mut dice, 2..6);
    let mut products = dice.products(dates.len());
    if revision > 1 {
        // A new entry differs from all old ones, and from that of the revision before.
        let unlisted: Vec<_> =
            PRODUCTS.iter().filter(|new| products.iter().all(|old| old.sku != new.sku)).collect();
        let turn = usize::try_from(revision).unwrap_or(0) % unlisted.len();
        products.insert(0, *unlisted[turn]);
    }
    let dates = (revision > 1).then(|| LATEST.to_owned()).into_iter().chain(dates);
    Some(
        products
            .into_iter()
            .zip(dates)
            .map(|(Product { sku, name, price }, added)| Favorite { sku, name, price, added })
            .collect(),
    )
}

pub(super) fn reviews(seed: u64, customer: u32, revision: u64) -> Vec<ProductReview> {
    let mut dice = Dice::new(seed, b'r', customer, 1);
    let mut written: Vec<_> =
        past_days(&mut dice, 0..5).into_iter().map(|day| review(&mut dice, day)).collect();
    if revision > 1 {
        written
            .insert(0, review(&mut Dice::new(seed, b'r', customer, revision), LATEST.to_owned()));
        written[0].id = format!("R-{customer}-{revision}");
    }
    written
}

fn review(dice: &mut Dice, written: String) -> ProductReview {
    let product = dice.products(1)[0];
    // Two of three are content, as reviewers of a shop that still exists are.
    let stars = [1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5][dice.index(12)];
    let text = dice.pick(&OPINIONS[usize::from(stars) - 1]);
    ProductReview {
        id: format!("R-{:07}", dice.below(10_000_000)),
        sku: product.sku,
        stars,
        text,
        written,
    }
}

pub(super) fn orders(seed: u64, customer: u32, revision: u64) -> Vec<Order> {
    let mut dice = Dice::new(seed, b'o', customer, 1);
    let mut placed: Vec<_> =
        past_days(&mut dice, 0..7).into_iter().map(|day| order(&mut dice, day)).collect();
    if revision > 1 {
        let mut newest = order(&mut Dice::new(seed, b'o', customer, revision), LATEST.to_owned());
        newest.id = format!("O-{customer}-{revision}");
        newest.status = "placed";
        placed.insert(0, newest);
    }
    placed
}

fn order(dice: &mut Dice, placed: String) -> Order {
    let count = 1 + dice.index(3);
    let items: Vec<_> = dice
        .products(count)
        .into_iter()
        .map(|Product { sku, name, price }| OrderItem {
            sku,
            name,
            price,
            quantity: [1, 1, 1, 2, 3][dice.index(5)],
        })
        .collect();
    Order {
        id: format!("O-{:07}", dice.below(10_000_000)),
        placed,
        status: dice.pick(&["delivered", "delivered", "shipped", "returned"]),
        total: items.iter().map(|item| item.price.times(item.quantity)).sum(),
        items,
    }
}

/// Some days of the last years, the latest first.
fn past_days(dice: &mut Dice, count: std::ops::Range<u64>) -> Vec<String> {
    let count = count.start + dice.below(count.end - count.start);
    let mut days: Vec<_> = (0..count)
        .map(|_| {
            format!("{}-{:02}-{:02}", 2024 + dice.below(3), 1 + dice.below(10), 1 + dice.below(28))
        })
        .collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    days
}

/// A name as it stands in a mail address.
fn ascii(name: &str) -> String {
    let plain = |c| match c {
        'á' => 'a',
        'í' => 'i',
        'ö' => 'o',
        other => other,
    };
    name.chars().map(plain).collect::<String>().to_ascii_lowercase()
}

/// The same throws for the same seed, upstream, customer and revision: `SplitMix64` (Steele, Lea,
/// Flood 2014).
struct Dice(u64);

impl Dice {
    fn new(seed: u64, upstream: u8, customer: u32, revision: u64) -> Self {
        let mut dice = Self(seed);
        for word in [u64::from(upstream), u64::from(customer), revision] {
            dice.0 ^= word;
            dice.0 = dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Different ones.
    fn products(&mut self, count: usize) -> Vec<Product> {
        let mut left = PRODUCTS.to_vec();
        (0..count.min(PRODUCTS.len())).map(|_| left.swap_remove(self.index(left.len()))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn all(seed: u64, customer: u32, revision: u64) -> Value {
        json!({
            "profile": profile(seed, customer, revision),
            "favorites": favorites(seed, customer, revision).unwrap_or_default(),
            "reviews": reviews(seed, customer, revision),
            "orders": orders(seed, customer, revision),
        })
    }

    #[test]
    fn the_same_seed_customer_and_revision_give_the_same_data() {
        for (customer, revision) in [(1, 1), (42, 1), (42, 9), (1_000, 3)] {
            assert_eq!(all(7, customer, revision), all(7, customer, revision));
        }
        assert_ne!(all(7, 42, 1), all(8, 42, 1), "another seed is another shop");
        assert_ne!(all(7, 42, 1)["profile"]["name"], all(7, 44, 1)["profile"]["name"]);
    }

    #[test]
    fn each_revision_changes_every_part_visibly() {
        for customer in 1..=CUSTOMERS {
            for revision in 1..4 {
                let before = all(7, customer, revision);
                let after = all(7, customer, revision + 1);
                for part in ["profile", "favorites", "reviews", "orders"] {
                    assert_ne!(
                        before[part], after[part],
                        "{part} of {customer} at revision {revision}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_account_leads_back_to_its_customer_and_to_nobody_else() {
        for customer in 1..=CUSTOMERS {
            assert_eq!(customer_of(&account_of(customer)), Some(customer));
        }
        for stranger in
            ["A-500000", "A-500001", "A-537037", "A-0500037", "500037", "A-", "A--1", ""]
        {
            assert_eq!(customer_of(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn each_tenth_customer_has_no_favorites_until_the_first_change() {
        assert!(favorites(7, 7, 1).is_none());
        assert!(favorites(7, 7, 2).is_some());
        assert!(favorites(7, 42, 1).is_some());
    }

    #[test]
    fn the_demos_schema_is_true_to_the_data_and_names_every_member() {
        let mut schema = serde_json::from_str(super::super::domain_file::SCHEMA).unwrap();
        forbid_unnamed_members(&mut schema);
        let validator = jsonschema::validator_for(&schema).unwrap();
        for customer in 1..=CUSTOMERS {
            for revision in [1, 2] {
                let dataset = all(7, customer, revision);
                let problem = validator.validate(&dataset).err().map(|error| error.to_string());
                assert_eq!(problem, None, "customer {customer} at revision {revision}");
            }
        }
    }

    fn forbid_unnamed_members(schema: &mut Value) {
        if let Value::Object(members) = schema {
            members.values_mut().for_each(forbid_unnamed_members);
            if members.get("type") == Some(&json!("object")) {
                members.insert("additionalProperties".into(), json!(false));
            }
        }
    }
}
