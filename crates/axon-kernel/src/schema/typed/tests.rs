use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroI128, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{TypeError, TypeFault};
use crate::schema::{MAX_SCHEMA_BYTES, Schema, SchemaError};

fn refused<T: JsonSchema + ?Sized>() -> TypeError {
    Schema::of_deserialized::<T>().unwrap_err()
}

fn of<T: JsonSchema + ?Sized>() -> Schema {
    Schema::of_deserialized::<T>().unwrap()
}

#[derive(JsonSchema)]
enum Never {}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Node {
    value: i32,
    next: Option<Box<Node>>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Bottomless {
    next: Box<Bottomless>,
}

#[test]
fn integers_of_128_bits_are_refused_with_their_place() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Account {
        history: Vec<Entry>,
    }
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Entry {
        amount: Option<i128>,
    }
    let error = refused::<Account>();
    assert_eq!(error.pointer, "/$defs/Entry/properties/amount");
    assert_eq!(error.fault, TypeFault::WideInteger);
    let told = error.to_string();
    assert!(told.contains("`Account`") && told.contains("or a text"), "{told}");
    assert_eq!(refused::<u128>().fault, TypeFault::WideInteger);
    assert_eq!(refused::<HashMap<String, NonZeroI128>>().fault, TypeFault::WideInteger);
}

#[test]
fn types_without_values_are_refused_and_ways_around_them_are_not() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Holder {
        fine: String,
        never: (u8, Never),
    }
    assert_eq!(refused::<Never>().fault, TypeFault::NoValue);
    let error = refused::<Holder>();
    assert_eq!(error.fault, TypeFault::NoValue);
    assert!(error.pointer.contains("never") || error.pointer.contains("Never"), "{error}");
    let error = refused::<Bottomless>();
    assert_eq!(error.fault, TypeFault::Endless);
    assert!(error.to_string().contains("put an `Option` or a `Vec`"), "{error}");
    assert!(of::<Option<Never>>().validate(&Value::Null).is_ok());
    assert!(of::<Vec<Never>>().validate(&json!([])).is_ok());
    assert!(of::<Node>().validate(&json!({"value": 1, "next": {"value": 2}})).is_ok());
}

#[test]
fn patterns_that_look_around_are_refused_and_those_that_write_it_in_brackets_are_not() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Card {
        #[schemars(regex(pattern = "^(?!0)[0-9]{16}$"))]
        number: String,
    }
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Smiley {
        #[schemars(regex(pattern = "^[(?=)]+$"))]
        face: String,
    }
    let error = refused::<Card>();
    assert_eq!(error.pointer, "/properties/number");
    assert!(matches!(&error.fault, TypeFault::Pattern { pattern } if pattern.contains("?!0")));
    assert!(of::<Smiley>().validate(&json!({"face": "=)"})).is_ok());
}

#[test]
fn what_a_schema_itself_may_not_be_is_refused_by_type() {
    struct Remote;
    impl JsonSchema for Remote {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Remote".into()
        }
        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "items": { "$ref": "https://example.com/item.json" } })
        }
    }
    struct Huge;
    impl JsonSchema for Huge {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Huge".into()
        }
        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "description": "x".repeat(MAX_SCHEMA_BYTES) })
        }
    }
    type One<T> = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<T>>>>>>>>;
    let remote = refused::<Remote>();
    assert!(matches!(&remote.fault, TypeFault::Schema(SchemaError::RemoteRef { .. })), "{remote}");
    assert!(remote.to_string().contains("the type `Remote`"), "{remote}");
    let huge = refused::<Huge>().fault;
    assert!(matches!(huge, TypeFault::Schema(SchemaError::TooLarge { .. })));
    let deep = refused::<One<One<One<One<One<One<One<One<u8>>>>>>>>>().fault;
    assert_eq!(deep, TypeFault::Schema(SchemaError::TooDeep));
}

#[test]
fn what_fits_the_schema_fits_the_type() {
    #[derive(JsonSchema, Deserialize)]
    #[expect(dead_code, reason = "only that it can be read is looked at")]
    struct Bounds {
        a: i32,
        b: u32,
        c: i64,
        d: u64,
        e: Option<f32>,
        f: NonZeroU64,
        #[schemars(range(min = 3, max = 5))]
        g: i64,
        h: BTreeMap<u8, i8>,
    }
    let schema = of::<Bounds>();
    let good =
        json!({"a": -5, "b": 5, "c": i64::MIN, "d": u64::MAX, "f": 1, "g": 4, "h": {"7": 1}});
    assert_eq!(schema.validate(&good), Ok(()));
    serde_json::from_value::<Bounds>(good.clone()).unwrap();
    for (key, wrong) in [
        ("a", json!(2_147_483_648_i64)),
        ("b", json!(4_294_967_296_i64)),
        ("b", json!(-1)),
        ("c", json!(9_223_372_036_854_775_808_u64)),
        ("d", json!(1e20)),
        ("e", json!(1e39)),
        ("f", json!(0)),
        ("g", json!(6)),
        ("h", json!({"x": 1})),
        ("h", json!({"07": 1})),
        ("h", json!({"٣": 1})),
    ] {
        let mut value = good.clone();
        value[key] = wrong;
        assert!(schema.validate(&value).is_err(), "{value}");
        assert!(
            serde_json::from_value::<Bounds>(value.clone()).is_err() || key == "g" || key == "e"
        );
    }
}

#[test]
fn a_type_has_one_schema_for_what_is_read_and_one_for_what_is_written() {
    #[derive(JsonSchema, Serialize, Deserialize)]
    struct Deps {
        #[serde(default)]
        shop: String,
        #[serde(skip_serializing)]
        secret: String,
        tags: BTreeSet<String>,
    }
    let (read, written) = (of::<Deps>(), Schema::of_serialized::<Deps>().unwrap());
    let deps = Deps { shop: "s".into(), secret: "x".into(), tags: BTreeSet::new() };
    assert_eq!(written.validate(&json!(deps)), Ok(()));
    assert!(read.validate(&json!(deps)).is_err());
    assert_eq!(read.validate(&json!({"secret": "x", "tags": ["a"]})), Ok(()));
    assert!(written.validate(&json!({"tags": []})).is_err());
    assert_eq!(deps.secret, "x");
    assert!(read.raw().get("$schema").is_none());
}

#[test]
fn maps_with_other_keys_and_nulls_that_mean_two_things_are_refused_by_place() {
    #[derive(Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
    enum Key {
        Plain,
        Holds(u8),
    }
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Grid {
        name: String,
        rows: Vec<Row>,
    }
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    enum Row {
        Empty,
        Full { cells: BTreeMap<(u8, u8), String>, below: Option<Box<Row>> },
    }
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Patch {
        id: u8,
        change: Option<Option<String>>,
    }
    fn refused<T: JsonSchema + serde::de::DeserializeOwned>() -> TypeError {
        Schema::for_reading::<T>().unwrap_err()
    }
    let error = refused::<Grid>();
    assert_eq!(error.fault, TypeFault::Key);
    assert_eq!(error.pointer, "/properties/rows/items/properties/cells/propertyNames");
    assert_eq!(refused::<BTreeMap<bool, u8>>().fault, TypeFault::Key);
    assert_eq!(refused::<BTreeMap<Key, u8>>().fault, TypeFault::Key);
    assert_eq!(refused::<Vec<BTreeMap<Option<String>, u8>>>().fault, TypeFault::Key);
    let error = refused::<Patch>();
    assert_eq!((error.pointer.as_str(), error.fault), ("/properties/change", TypeFault::NullTwice));
    assert_eq!(refused::<Option<()>>().fault, TypeFault::NullTwice);
    assert_eq!(refused::<u128>().fault, TypeFault::WideInteger);
}

#[test]
fn a_look_at_how_a_type_is_read_refuses_nothing_that_survives() {
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Wide {
        a: Option<Box<Wide>>,
        b: Vec<Wide>,
        c: BTreeMap<char, Wide>,
        d: Option<Value>,
        e: (Option<u8>, [Option<i8>; 2]),
        f: HashMap<NonZeroU64, char>,
    }
    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "kind")]
    #[expect(dead_code, reason = "only the schema is looked at")]
    enum Tagged {
        Unit,
        Many { list: Vec<Tagged> },
    }
    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema is looked at")]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
        #[serde(flatten)]
        tagged: Tagged,
    }
    fn fine<T: JsonSchema + serde::de::DeserializeOwned>() {
        if let Err(error) = Schema::for_reading::<T>() {
            panic!("{error}");
        }
    }
    fine::<Wide>();
    fine::<Tagged>();
    fine::<Flat>();
    fine::<Value>();
    fine::<BTreeMap<Box<str>, std::time::Duration>>();
    fine::<Vec<Option<Vec<Option<String>>>>>();
}
