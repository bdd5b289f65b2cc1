//! The kernel's types in the OpenAPI document: their schemas are the kernel's own.

use std::borrow::Cow;

use axon_kernel::{event, failure, store};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! kernel_types {
    ($($(#[$doc:meta])* $name:ident = $kernel:ty;)*) => {
        $(
            $(#[$doc])*
            pub(crate) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    RefOr::Ref(Ref::from_schema_name(stringify!($name)))
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )*

        /// Returns the schemas of the kernel's types, by name.
        pub(crate) fn all() -> Map<String, Value> {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            });
            let mut generator = SchemaGenerator::new(settings);
            $(let _reference = generator.subschema_for::<$kernel>();)*
            generator.take_definitions(true)
        }
    };
}

/// An event of a run, as its stream has it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read for its schema only")]
pub(crate) struct RunMessage {
    /// Its number, by which a client that was cut off reads on; `lagged` and
    /// `unreadable` have none.
    #[schema(nullable = false, pattern = "^[0-9]+$")]
    id: Option<String>,
    /// Its name, such as `text_delta`; `lagged` says that the reader was too slow, and
    /// `unreadable` that the stream ends here and the run does not.
    event: String,
    /// A `Sequenced` as JSON; of `lagged` how many events were `missed`, and the `text` so far;
    /// of `unreadable` the `code` and `detail` of the problem.
    #[schema(content_media_type = "application/json")]
    data: String,
}

kernel_types! {
    /// An event of a run.
    Sequenced = event::Sequenced;
    /// What a run waits for.
    Paused = event::Paused;
    /// Why something failed.
    Failure = failure::Failure;
    /// What is known of a run.
    RunSummary = store::RunSummary;
}
