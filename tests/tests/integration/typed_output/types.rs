//! Types as authors write them: every way in which serde can write an enum, and what else there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axon_kernel::json::RawJson;
use axon_kernel::schema::Schema;
use proptest::prelude::*;
use proptest::sample::Index;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::family::Family;

/// What other types hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Inner {
    pub(super) letter: char,
    pub(super) maybe: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Nested {
    /// A text of any kind.
    text: String,
    count: u64,
    small: i8,
    ratio: f64,
    single: f32,
    yes: bool,
    inner: Vec<Inner>,
    one: Box<Inner>,
    pause: Duration,
    nothing: (),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) enum External {
    Unit,
    New(i32),
    Inner(Inner),
    Pair(u8, String),
    Struct { x: f32, y: Option<u16> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Internal {
    Unit,
    Inner(Inner),
    WithFields { x: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "t", content = "c")]
pub(super) enum Adjacent {
    Unit,
    New(Vec<i32>),
    Pair(bool, String),
    Struct { x: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Untagged {
    Number(i64),
    Text(String),
    Inner(Inner),
    List(Vec<bool>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Plain {
    FirstOne,
    SecondOne,
    #[serde(rename = "3")]
    Third,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Ranges {
    #[schemars(range(min = 1, max = 10))]
    number: i32,
    #[schemars(length(min = 2, max = 5))]
    text: String,
    #[schemars(length(max = 2))]
    list: Vec<u8>,
    #[schemars(regex(pattern = "^[a-z]+-[0-9]{2}$"))]
    code: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Tree {
    value: i32,
    below: Vec<Tree>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) enum List {
    Nil,
    Cons(i32, Box<List>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Even {
    n: u32,
    odd: Option<Box<Odd>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Odd {
    even: Vec<Even>,
    by_name: BTreeMap<String, Even>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Flat {
    id: u32,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    choice: Internal,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Rest {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, i32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Renamed {
    #[serde(rename = "type")]
    kind: Plain,
    #[serde(default)]
    left_out: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    some_times: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Page {
    items: Vec<Wrapper<Inner>>,
    next: Option<Wrapper<u32>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Maps {
    by_text: BTreeMap<String, Inner>,
    by_number: BTreeMap<u16, Vec<bool>>,
    by_signed: BTreeMap<i64, ()>,
    by_choice: BTreeMap<Key, u8>,
    set: BTreeSet<String>,
    tuple: (u8, String, Option<bool>),
    array: [i16; 3],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Wrapper<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Metres {
    length: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub(super) enum Key {
    One,
    Two,
}

impl Tree {
    /// Returns a tree of so many levels below its root.
    pub(super) fn balanced(levels: i32) -> Self {
        let below = if levels == 0 { 0 } else { 2 };
        Self { value: levels, below: (0..below).map(|_| Self::balanced(levels - 1)).collect() }
    }
}

fn text() -> impl Strategy<Value = String> {
    "(?s).{0,12}"
}

fn inner() -> impl Strategy<Value = Inner> {
    (any::<char>(), any::<Option<i64>>()).prop_map(|(letter, maybe)| Inner { letter, maybe })
}

fn number() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE
}

fn nested() -> impl Strategy<Value = Nested> {
    let numbers = (any::<u64>(), any::<i8>(), number(), any::<i32>(), any::<bool>());
    let inners = (prop::collection::vec(inner(), 0..4), inner());
    (text(), numbers, inners, any::<u32>()).prop_map(|(text, numbers, inners, millis)| {
        let (count, small, ratio, single, yes) = numbers;
        let (inner, one) = inners;
        let pause = Duration::from_millis(millis.into());
        let (single, one) = (single as f32, Box::new(one));
        Nested { text, count, small, ratio, single, yes, inner, one, pause, nothing: () }
    })
}

fn external() -> impl Strategy<Value = External> {
    prop_oneof![
        Just(External::Unit),
        any::<i32>().prop_map(External::New),
        inner().prop_map(External::Inner),
        (any::<u8>(), text()).prop_map(|(n, text)| External::Pair(n, text)),
        (any::<i16>(), any::<Option<u16>>())
            .prop_map(|(x, y)| External::Struct { x: f32::from(x) / 3.0, y }),
    ]
}

fn internal() -> impl Strategy<Value = Internal> {
    prop_oneof![
        Just(Internal::Unit),
        inner().prop_map(Internal::Inner),
        any::<u32>().prop_map(|x| Internal::WithFields { x }),
    ]
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    prop_oneof![
        Just(Adjacent::Unit),
        any::<Vec<i32>>().prop_map(Adjacent::New),
        (any::<bool>(), text()).prop_map(|(yes, text)| Adjacent::Pair(yes, text)),
        any::<u8>().prop_map(|x| Adjacent::Struct { x }),
    ]
}

fn untagged() -> impl Strategy<Value = Untagged> {
    prop_oneof![
        any::<i64>().prop_map(Untagged::Number),
        text().prop_map(Untagged::Text),
        inner().prop_map(Untagged::Inner),
        prop::collection::vec(any::<bool>(), 0..4).prop_map(Untagged::List),
    ]
}

fn plain() -> impl Strategy<Value = Plain> {
    prop_oneof![Just(Plain::FirstOne), Just(Plain::SecondOne), Just(Plain::Third)]
}

fn ranges() -> impl Strategy<Value = Ranges> {
    let list = prop::collection::vec(any::<u8>(), 0..=2);
    (1..=10, "[^\\x00-\\x1f]{2,5}", list, "[a-z]{1,5}-[0-9]{2}")
        .prop_map(|(number, text, list, code)| Ranges { number, text, list, code })
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = any::<i32>().prop_map(|value| Tree { value, below: Vec::new() });
    leaf.prop_recursive(6, 24, 3, |below| {
        (any::<i32>(), prop::collection::vec(below, 0..3))
            .prop_map(|(value, below)| Tree { value, below })
    })
}

fn list() -> impl Strategy<Value = List> {
    prop::collection::vec(any::<i32>(), 0..10).prop_map(|values| {
        values.into_iter().fold(List::Nil, |rest, value| List::Cons(value, Box::new(rest)))
    })
}

fn even() -> impl Strategy<Value = Even> {
    let leaf = any::<u32>().prop_map(|n| Even { n, odd: None });
    leaf.prop_recursive(4, 16, 3, |even| {
        let by_name = prop::collection::btree_map(text(), even.clone(), 0..2);
        (any::<u32>(), prop::collection::vec(even, 0..3), by_name)
            .prop_map(|(n, even, by_name)| Even { n, odd: Some(Box::new(Odd { even, by_name })) })
    })
}

fn flat() -> impl Strategy<Value = Flat> {
    // An `Inner` in both would have its keys twice.
    let choice =
        prop_oneof![Just(Internal::Unit), any::<u32>().prop_map(|x| Internal::WithFields { x })];
    (any::<u32>(), inner(), choice).prop_map(|(id, inner, choice)| Flat { id, inner, choice })
}

fn rest() -> impl Strategy<Value = Rest> {
    (any::<u32>(), prop::collection::btree_map("[a-h]{1,3}", any::<i32>(), 0..4))
        .prop_map(|(id, rest)| Rest { id, rest })
}

fn renamed() -> impl Strategy<Value = Renamed> {
    (plain(), any::<Vec<u8>>(), prop::option::of(text()))
        .prop_map(|(kind, left_out, some_times)| Renamed { kind, left_out, some_times })
}

fn page() -> impl Strategy<Value = Page> {
    (prop::collection::vec(inner().prop_map(Wrapper), 0..3), any::<Option<u32>>())
        .prop_map(|(items, next)| Page { items, next: next.map(Wrapper) })
}

fn maps() -> impl Strategy<Value = Maps> {
    use prop::collection::{btree_map, btree_set, vec};
    let key = prop_oneof![Just(Key::One), Just(Key::Two)];
    (
        btree_map(text(), inner(), 0..3),
        btree_map(any::<u16>(), vec(any::<bool>(), 0..3), 0..3),
        btree_map(any::<i64>(), Just(()), 0..3),
        btree_map(key, any::<u8>(), 0..2),
        btree_set(text(), 0..3),
        (any::<u8>(), text(), any::<Option<bool>>()),
        any::<[i16; 3]>(),
    )
        .prop_map(|(by_text, by_number, by_signed, by_choice, set, tuple, array)| Maps {
            by_text,
            by_number,
            by_signed,
            by_choice,
            set,
            tuple,
            array,
        })
}

impl Family {
    pub(super) fn of_all_types() -> Self {
        Self::default()
            .with("nested", nested())
            .with("external", external())
            .with("internal", internal())
            .with("adjacent", adjacent())
            .with("untagged", untagged())
            .with("plain", plain())
            .with("ranges", ranges())
            .with("tree", tree())
            .with("list", list())
            .with("even", even())
            .with("flat", flat())
            .with("rest", rest())
            .with("renamed", renamed())
            .with("page", page())
            .with("maps", maps())
            .with("option", prop::option::of(tree()))
            .with("vector", prop::collection::vec(external(), 0..4))
            .with("dictionary", prop::collection::btree_map(any::<i32>(), text(), 0..4))
            .with("tuple", (any::<u8>(), text(), prop::option::of(inner())))
            .with("metres", number().prop_map(|length| Metres { length }))
            .with("scalar", text())
    }
}

/// Checks one of the types against a value that need not be one of its.
pub(super) fn fits_only_what_can_be_read(value: &Value, at: Index) {
    const CHECKS: [fn(&Value); 14] = [
        promises::<Inner>,
        promises::<External>,
        promises::<Internal>,
        promises::<Adjacent>,
        promises::<Untagged>,
        promises::<Plain>,
        promises::<Tree>,
        promises::<List>,
        promises::<Rest>,
        promises::<Vec<i8>>,
        promises::<(u8, Option<bool>)>,
        promises::<BTreeMap<u16, f32>>,
        promises::<BTreeMap<i32, Vec<u64>>>,
        promises::<Option<[bool; 2]>>,
    ];
    at.get(&CHECKS)(value);
}

fn promises<T: JsonSchema + DeserializeOwned>(value: &Value) {
    let schema = Schema::of_deserialized::<T>().unwrap();
    if schema.validate(value).is_ok() {
        let read = RawJson::from(value).read::<T>();
        assert!(read.is_ok(), "{value} fits {schema:?} and cannot be read: {:?}", read.err());
    }
}
