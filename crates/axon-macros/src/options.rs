//! What `#[tool(…)]` says.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{LitInt, LitStr, Token};

use crate::nearest::did_you_mean;

/// The keys that there are, each as it is written.
const KEYS: [(&str, &str); 6] = [
    ("effect", "effect = \"pure\""),
    ("timeout", "timeout = \"5s\""),
    ("requires_approval", "requires_approval"),
    ("sequential", "sequential"),
    ("max_retries", "max_retries = 3"),
    ("name", "name = \"…\""),
];

const EFFECTS: [&str; 3] = ["pure", "idempotent", "once"];

/// The longest time that a definition may give, as in an agent's file.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What `#[tool(…)]` says.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// What the model calls it, unless like the function.
    pub(crate) name: Option<LitStr>,
    effect: Option<Effect>,
    timeout: Option<Duration>,
    max_retries: Option<u32>,
    requires_approval: bool,
    sequential: bool,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Pure,
    Idempotent,
    Once,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        let mut seen = Vec::new();
        let parser = syn::meta::parser(|meta| {
            let key = key_of(&meta)?;
            if seen.contains(&key) {
                return Err(meta.error(format!("`{key}` is said twice")));
            }
            options.take(key, &meta)?;
            seen.push(key);
            Ok(())
        });
        parser.parse2(input.parse()?)?;
        Ok(options)
    }
}

fn key_of(meta: &ParseNestedMeta<'_>) -> syn::Result<&'static str> {
    if let Some((key, _)) = KEYS.iter().find(|(key, _)| meta.path.is_ident(key)) {
        return Ok(key);
    }
    let path = &meta.path;
    let given = quote!(#path).to_string();
    let nearest = did_you_mean(&given, &KEYS.map(|(key, _)| key));
    let written = KEYS.map(|(_, written)| written).join(", ");
    Err(meta.error(format!("`#[tool]` knows no `{given}`{nearest}\nit knows: {written}")))
}

impl Options {
    fn take(&mut self, key: &'static str, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        match key {
            "effect" => self.effect = Some(effect(&value(key, meta)?)?),
            "timeout" => self.timeout = Some(timeout(&value(key, meta)?)?),
            "max_retries" => self.max_retries = Some(value::<LitInt>(key, meta)?.base10_parse()?),
            "name" => self.name = Some(value(key, meta)?),
            "requires_approval" => {
                alone(key, meta)?;
                self.requires_approval = true;
            }
            _sequential => {
                alone(key, meta)?;
                self.sequential = true;
            }
        }
        Ok(())
    }

    /// Returns the calls that say the same of a `Tool`.
    pub(crate) fn calls(&self) -> TokenStream {
        let effect = self.effect.map(|effect| {
            let effect = match effect {
                Effect::Pure => quote!(Pure),
                Effect::Idempotent => quote!(Idempotent),
                Effect::Once => quote!(Once),
            };
            quote!(.effect(::axon_runtime::kernel::spec::Effect::#effect))
        });
        let timeout = self.timeout.map(|timeout| {
            let (seconds, rest) = (timeout.as_secs(), timeout.subsec_nanos());
            quote!(.timeout(::core::time::Duration::new(#seconds, #rest)))
        });
        let max_retries = self.max_retries.map(|retries| quote!(.max_retries(#retries)));
        let approval = self.requires_approval.then(|| quote!(.requires_approval()));
        let sequential = self.sequential.then(|| quote!(.sequential()));
        quote!(#effect #timeout #max_retries #approval #sequential)
    }
}

/// Reads what stands behind the `=` of `key`.
fn value<T: Parse>(key: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<T> {
    let wrong = || format!("write `{}`", written(key));
    if !meta.input.peek(Token![=]) {
        return Err(meta.error(wrong()));
    }
    let value = meta.value()?;
    let at = value.span();
    value.parse().map_err(|_other| syn::Error::new(at, wrong()))
}

fn alone(key: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.is_empty() || meta.input.peek(Token![,]) {
        return Ok(());
    }
    Err(meta.error(format!("write `{key}` alone, or leave it out")))
}

fn written(key: &str) -> &'static str {
    KEYS.iter().find(|(name, _)| *name == key).map_or("", |(_, written)| written)
}

fn effect(text: &LitStr) -> syn::Result<Effect> {
    match text.value().as_str() {
        "pure" => Ok(Effect::Pure),
        "idempotent" => Ok(Effect::Idempotent),
        "once" => Ok(Effect::Once),
        other => {
            let nearest = did_you_mean(other, &EFFECTS);
            let message = format!(
                "there is no effect `{other}`{nearest}\n\
                 it is \"pure\" (reads only), \"idempotent\" (the same call twice is the same as \
                 once) or \"once\" (never repeated)"
            );
            Err(syn::Error::new(text.span(), message))
        }
    }
}

fn timeout(text: &LitStr) -> syn::Result<Duration> {
    let refused = |message: &str| Err(syn::Error::new(text.span(), message));
    match humantime::parse_duration(&text.value()) {
        Err(_unsaid) => refused("write a duration with its unit, like \"5s\" or \"1m 30s\""),
        Ok(Duration::ZERO) => refused("a duration must be longer than nothing"),
        Ok(time) if time > LONGEST => refused("a duration must not be longer than 365 days"),
        Ok(time) => Ok(time),
    }
}
