//! Looks at how a type is read, by playing the JSON it asks for: what its schema does not tell.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::TypeFault;

/// How deep a type is followed; what recurs has shown itself by then.
const DEEP: usize = 12;

/// How often values are asked for in one go at the most.
const STEPS: u32 = 5_000;

/// How many goes there are, so that each variant of an enum has its turn.
const GOES: usize = 48;

/// Returns what about `T` cannot be carried as JSON although a schema describes it, and where.
///
/// What a type does not say, or checks itself, ends the look at that part: silence is no promise.
pub(super) fn fault<T: DeserializeOwned>() -> Option<(String, TypeFault)> {
    let look = Look::default();
    for go in 0..GOES {
        look.steps.set(0);
        look.backwards.set(go % 2 == 1);
        look.path.borrow_mut().clear();
        // A value that was played may be refused; only what was asked for counts.
        let _ = T::deserialize(Probe { look: &look, place: Place::Value });
        if look.found.borrow().is_some() || look.turns.borrow().values().all(|turns| turns.done()) {
            break;
        }
    }
    look.found.into_inner()
}

#[derive(Default)]
struct Look {
    path: RefCell<Vec<String>>,
    found: RefCell<Option<(String, TypeFault)>>,
    turns: RefCell<BTreeMap<&'static str, Turns>>,
    steps: Cell<u32>,
    backwards: Cell<bool>,
}

/// Which variants of an enum have had their turn.
#[derive(Default)]
struct Turns {
    next: usize,
    variants: usize,
}

impl Turns {
    fn done(&self) -> bool {
        self.next >= self.variants
    }
}

/// Where a value is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    /// In an `Option`, where `null` means that there is none.
    Some,
    Key,
}

#[derive(Clone, Copy)]
struct Probe<'l> {
    look: &'l Look,
    place: Place,
}

/// Ends a look.
#[derive(Debug)]
struct Enough;

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("enough")
    }
}

impl std::error::Error for Enough {}

impl de::Error for Enough {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'l> Probe<'l> {
    fn refuse<T>(self, fault: TypeFault) -> Result<T, Enough> {
        let pointer: String =
            self.look.path.borrow().iter().map(|part| format!("/{part}")).collect();
        self.look.found.borrow_mut().get_or_insert((pointer, fault));
        Err(Enough)
    }

    /// Takes a step, which no key can be the end of unless it is one.
    fn step(self, may_be_key: bool) -> Result<Self, Enough> {
        if self.place == Place::Key && !may_be_key {
            return self.refuse(TypeFault::Key);
        }
        let steps = self.look.steps.get() + 1;
        self.look.steps.set(steps);
        if steps > STEPS { Err(Enough) } else { Ok(self) }
    }

    fn is_deep(self) -> bool {
        self.look.path.borrow().len() >= DEEP
    }

    /// Reads a part below.
    fn below<'de, S: DeserializeSeed<'de>>(
        self,
        part: impl Into<String>,
        (place, seed): (Place, S),
    ) -> Result<S::Value, Enough> {
        self.look.path.borrow_mut().push(part.into());
        let read = seed.deserialize(Probe { place, ..self });
        self.look.path.borrow_mut().pop();
        read
    }
}

macro_rules! scalars {
    ($($method:ident $visit:ident $value:expr, $key:literal;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
                self.step($key)?;
                visitor.$visit($value)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Enough;

    scalars! {
        deserialize_bool visit_bool true, false;
        deserialize_i8 visit_i8 1, true;
        deserialize_i16 visit_i16 1, true;
        deserialize_i32 visit_i32 1, true;
        deserialize_i64 visit_i64 1, true;
        deserialize_i128 visit_i128 1, true;
        deserialize_u8 visit_u8 1, true;
        deserialize_u16 visit_u16 1, true;
        deserialize_u32 visit_u32 1, true;
        deserialize_u64 visit_u64 1, true;
        deserialize_u128 visit_u128 1, true;
        deserialize_f32 visit_f32 1.0, false;
        deserialize_f64 visit_f64 1.0, false;
        deserialize_char visit_char 'a', true;
        deserialize_str visit_str "a", true;
        deserialize_string visit_str "a", true;
        deserialize_identifier visit_str "a", true;
        deserialize_bytes visit_bytes b"a", false;
        deserialize_byte_buf visit_bytes b"a", false;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Enough> {
        Err(Enough)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        self.step(false)?;
        if self.place == Place::Some {
            return self.refuse(TypeFault::NullTwice);
        }
        if self.is_deep() {
            return visitor.visit_none();
        }
        visitor.visit_some(Probe { place: Place::Some, ..self })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        self.step(false)?;
        if self.place == Place::Some {
            return self.refuse(TypeFault::NullTwice);
        }
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        self.step(false)?;
        let items = if self.is_deep() { vec![] } else { vec!["items".to_owned()] };
        visitor.visit_seq(Parts { probe: self, left: items.into_iter() })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.step(false)?;
        let items: Vec<String> = (0..len).map(|n| format!("prefixItems/{n}")).collect();
        visitor.visit_seq(Parts { probe: self, left: items.into_iter() })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        self.step(false)?;
        visitor.visit_map(Entry { probe: self, left: !self.is_deep() })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.step(false)?;
        let mut fields = fields.to_vec();
        if self.look.backwards.get() {
            fields.reverse();
        }
        visitor.visit_map(Fields { probe: self, left: fields.into_iter(), field: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.step(true)?;
        let turn = {
            let mut all = self.look.turns.borrow_mut();
            let turns = all.entry(name).or_default();
            turns.variants = variants.len();
            turns.next += 1;
            turns.next - 1
        };
        let variant = variants.get(turn % variants.len().max(1)).ok_or(Enough)?;
        if self.look.path.borrow().len() > 2 * DEEP {
            return Err(Enough);
        }
        visitor.visit_enum(Variant { probe: self, variant })
    }
}

struct Parts<'l> {
    probe: Probe<'l>,
    left: std::vec::IntoIter<String>,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Enough;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Enough> {
        let Some(part) = self.left.next() else { return Ok(None) };
        self.probe.below(part, (Place::Value, seed)).map(Some)
    }
}

struct Entry<'l> {
    probe: Probe<'l>,
    left: bool,
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Enough;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Enough> {
        if !std::mem::take(&mut self.left) {
            return Ok(None);
        }
        self.probe.below("propertyNames", (Place::Key, seed)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Enough> {
        self.probe.below("additionalProperties", (Place::Value, seed))
    }
}

struct Fields<'l> {
    probe: Probe<'l>,
    left: std::vec::IntoIter<&'static str>,
    field: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Enough;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Enough> {
        let Some(field) = self.left.next() else { return Ok(None) };
        self.field = field;
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Enough> {
        self.probe.below(format!("properties/{}", self.field), (Place::Value, seed))
    }
}

struct Variant<'l> {
    probe: Probe<'l>,
    variant: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Enough;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Enough> {
        let name = StrDeserializer::new(self.variant);
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    /// Returns the probe of what the variant holds: as a key it can hold nothing.
    fn content(&self) -> Result<Probe<'_>, Enough> {
        self.probe.step(false)
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Enough;

    fn unit_variant(self) -> Result<(), Enough> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Enough> {
        self.content()?.below(format!("properties/{}", self.variant), (Place::Value, seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Enough> {
        let content = Probe { place: Place::Value, ..self.content()? };
        content.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        let content = Probe { place: Place::Value, ..self.content()? };
        content.deserialize_struct(self.variant, fields, visitor)
    }
}
