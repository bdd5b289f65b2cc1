//! Rust types from a JSON Schema.

mod implement;
mod prepare;
mod survey;

use std::panic::{self, AssertUnwindSafe};

use axon_kernel::schema::Schema;
use axon_kernel::spec::PythonTarget;
use schemars_0_8::schema::RootSchema;
use serde_json::Value;
use typify::{TypeSpace, TypeSpaceSettings};

use self::prepare::{Prepared, prepare, type_name};
use crate::report::Report;

/// Returns the types of `schema`, which comes from `from`, the topmost of them called `name`.
pub(super) fn types(schema: &Value, from: &str, name: Option<&str>) -> Result<String, Report> {
    let refused = |problem: String| Report::config(format!("{from}: {problem}"));
    Schema::new(schema.clone()).map_err(|error| refused(error.to_string()))?;
    survey::check(schema).map_err(|unsupported| {
        let report = refused(unsupported.to_string());
        report.todo("leave it out of what types are made from, or write these types by hand")
    })?;
    let title = name.map_or_else(|| named(schema, from), str::to_owned);
    if syn::parse_str::<syn::Ident>(&title).is_err() {
        return Err(Report::usage(format!("`{title}` can be no Rust type"))
            .todo("give another one with --name"));
    }
    let Prepared { schema: prepared, originals } = prepare(schema, &title);
    let root: RootSchema = serde_json::from_value(prepared)
        .map_err(|error| refused(format!("it is not understood: {error}")))?;
    let (stream, needs_regress) = generated(root).map_err(|error| refused(error.to_string()))?;
    let file = syn::parse2(stream).map_err(|error| refused(format!("no types: {error}")))?;
    let file = implement::schemas(file, &originals).map_err(|error| refused(error.to_string()))?;
    Ok(head(from, needs_regress) + &prettyplease::unparse(&file))
}

/// Returns the name of the topmost type: the schema's own, or that of where it comes from.
fn named(schema: &Value, from: &str) -> String {
    let from = match PythonTarget::try_from(from) {
        Ok(target) => target.attribute().to_owned(),
        Err(_) => "Root".to_owned(),
    };
    let title = schema["title"].as_str().map_or(from, str::to_owned);
    type_name(&title)
}

/// A schema that the generator gives up on.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("no types can be made of it: {0}")]
    Refused(typify::Error),
    #[error("no types can be made of it: {0}")]
    Panicked(String),
}

fn generated(root: RootSchema) -> Result<(proc_macro2::TokenStream, bool), GenerateError> {
    let mut settings = TypeSpaceSettings::default();
    settings.with_derive("PartialEq".to_owned()).with_map_type("::std::collections::BTreeMap");
    let mut space = TypeSpace::new(&settings);
    let hook = panic::take_hook();
    // What the generator gives up on in this way is told as an error, like everything else.
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(|| {
        space.add_root_schema(root).map(|_root| (space.to_stream(), space.uses_regress()))
    }));
    panic::set_hook(hook);
    match made {
        Ok(made) => made.map_err(GenerateError::Refused),
        Err(panicked) => {
            let said = panicked.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panicked.downcast_ref::<&str>().copied());
            Err(GenerateError::Panicked(said.unwrap_or("no reason is given").to_owned()))
        }
    }
}

fn head(from: &str, needs_regress: bool) -> String {
    let regress = if needs_regress { ", regress 0.12" } else { "" };
    format!(
        "// The types of {}, written by `axon stubs rust`: change them there.\n\
         // They need the crates serde (with derive), serde_json and schemars 1{regress}.\n\n",
        from.replace(['\n', '\r'], " ")
    )
}
