//! What the `OTEL_` variables say.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axon_kernel::trace::{Sampler, Share};
use opentelemetry::KeyValue;
use opentelemetry_otlp::Protocol;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Where collectors listen by default.
const ENDPOINT: &str = "http://localhost:4318";

/// What spans are called after where nobody says it.
const SERVICE: &str = "axon";

/// Variables of the conventions that change nothing here.
const PASSED_OVER: [&str; 5] = [
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_BSP_EXPORT_TIMEOUT",
];

/// Where spans are sent, and how. The SDK would read its process's variables; here those count that
/// the caller knows, of which `.env` may be a part.
#[derive(Clone)]
pub struct Settings {
    /// Which traces are told.
    pub sampler: Sampler,
    /// Whether spans hold what was asked and answered.
    pub content: bool,
    pub(crate) endpoint: Url,
    pub(crate) protocol: Protocol,
    /// They may be keys.
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) resource: Resource,
    pub(crate) queue: usize,
    pub(crate) batch: usize,
    pub(crate) delay: Duration,
}

/// A variable that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct VariableError {
    /// Which one.
    pub variable: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Looks a variable up; an empty one is none.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Returns the one of traces, or else the one of everything.
    fn of_traces(&self, name: &str) -> Option<String> {
        let own = name.replace("_OTLP_", "_OTLP_TRACES_");
        self.get(&own).or_else(|| self.get(name))
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Returns a number above zero; what is none is told, and passed over.
    fn number(&self, name: &str, default: u32) -> u32 {
        let Some(value) = self.of_traces(name) else { return default };
        value.parse().ok().filter(|number| *number > 0).unwrap_or_else(|| {
            tracing::warn!(variable = name, "is no number above zero, and passed over");
            default
        })
    }

    /// Tells of what is asked for and not done.
    fn tell_passed_over(&self) {
        for variable in PASSED_OVER {
            if self.of_traces(variable).is_some_and(|value| value != "none") {
                tracing::warn!(variable, "is not heeded here, and passed over");
            }
        }
    }

    fn milliseconds(&self, name: &str, default: u32) -> Duration {
        Duration::from_millis(self.number(name, default).into())
    }
}

impl Settings {
    /// Reads the variables. Nothing is sent unless an endpoint is named, or `OTEL_TRACES_EXPORTER` is
    /// `otlp`.
    ///
    /// # Errors
    ///
    /// [`VariableError`] if spans are to be sent in a way that there is not.
    pub fn from_variables(
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, VariableError> {
        let variables = Variables(variable);
        if variables.is_true("OTEL_SDK_DISABLED") {
            return Ok(None);
        }
        let exporter = variables.get("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(_) => return Err(wrong("OTEL_TRACES_EXPORTER", "is not `otlp` or `none`")),
        }
        let Some(endpoint) = endpoint(&variables, exporter.is_some())? else { return Ok(None) };
        variables.tell_passed_over();
        let queue = variables.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048).min(65_536) as usize;
        let batch = variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512) as usize;
        Ok(Some(Self {
            sampler: sampler(&variables),
            content: variables.is_true("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
            endpoint,
            protocol: protocol(&variables)?,
            headers: headers(&variables)?,
            timeout: variables.milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000),
            resource: resource(&variables),
            queue,
            batch: batch.min(queue),
            delay: variables.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
        }))
    }

    /// Returns whether the collector is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.endpoint.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

fn wrong(variable: &'static str, problem: impl Into<String>) -> VariableError {
    VariableError { variable, problem: problem.into() }
}

fn endpoint(variables: &Variables<'_>, asked: bool) -> Result<Option<Url>, VariableError> {
    const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const OF_ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let (variable, text) = match (variables.get(OF_TRACES), variables.get(OF_ALL)) {
        (Some(whole), _) => (OF_TRACES, whole),
        (None, Some(base)) => (OF_ALL, base),
        (None, None) if asked => (OF_ALL, ENDPOINT.to_owned()),
        (None, None) => return Ok(None),
    };
    let mut url = Url::parse(&text).map_err(|error| wrong(variable, error.to_string()))?;
    if variable == OF_ALL {
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(variable, "holds a name or a password: OTEL_EXPORTER_OTLP_HEADERS may"));
    }
    match url.scheme() {
        "http" => Ok(Some(url)),
        "https" if cfg!(feature = "tls") => Ok(Some(url)),
        "https" => Err(wrong(
            variable,
            "this build speaks no https: build it with the feature `otel-tls`, or name a collector \
             that is reached by http",
        )),
        _ => Err(wrong(variable, "is no http:// or https:// address")),
    }
}

fn protocol(variables: &Variables<'_>) -> Result<Protocol, VariableError> {
    match variables.of_traces("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        None | Some("http/protobuf") => Ok(Protocol::HttpBinary),
        Some("http/json") => Ok(Protocol::HttpJson),
        Some(_) => Err(wrong(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "is not `http/protobuf` or `http/json`; collectors take those at port 4318",
        )),
    }
}

/// Reads `key=value` pairs whose values may be percent-encoded.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        Some((key.trim().to_owned(), value)).filter(|(key, _)| !key.is_empty())
    })
}

fn headers(variables: &Variables<'_>) -> Result<HeaderMap, VariableError> {
    const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(&variables.of_traces(HEADERS).unwrap_or_default()) {
        // Neither is shown: it may be a key.
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            return Err(wrong(HEADERS, "a name or a value in it can be in no header"));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn resource(variables: &Variables<'_>) -> Resource {
    let given = variables.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let own = [("service.name", SERVICE), ("service.version", env!("CARGO_PKG_VERSION"))];
    let builder = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.map(|(key, value)| KeyValue::new(key, value)))
        .with_attributes(pairs(&given).map(|(key, value)| KeyValue::new(key, value)));
    match variables.get("OTEL_SERVICE_NAME") {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}

fn sampler(variables: &Variables<'_>) -> Sampler {
    let name = variables.get("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let (roots, heeds_parent) = match name.strip_prefix("parentbased_") {
        Some(roots) => (roots, true),
        None => (&*name, name.is_empty()),
    };
    let roots = match roots {
        "" | "always_on" => Share::All,
        "always_off" => Share::None,
        "traceidratio" => {
            let ratio = variables.get("OTEL_TRACES_SAMPLER_ARG").and_then(|arg| arg.parse().ok());
            let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.map_or(Share::All, Share::Ratio)
        }
        _ => {
            tracing::warn!(sampler = name, "OTEL_TRACES_SAMPLER names none that there is");
            return Sampler::default();
        }
    };
    Sampler { roots, heeds_parent }
}

/// Shows no header.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint.host_str())
            .field("protocol", &self.protocol)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Option<Settings>, VariableError> {
        Settings::from_variables(&|name| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn on(given: &[(&str, &str)]) -> Settings {
        read(given).unwrap().unwrap()
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_SERVICE_NAME", "s")]).unwrap().is_none());
        assert!(read(&[HERE, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read(&[HERE, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        let default = on(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert_eq!(default.endpoint.as_str(), "http://localhost:4318/v1/traces");
        assert!(default.is_local());
    }

    #[test]
    fn the_variables_of_traces_come_first() {
        assert_eq!(on(&[HERE]).endpoint.as_str(), "http://127.0.0.1:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:1/in");
        let json = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json");
        let binary = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let settings = on(&[HERE, own, json, binary]);
        assert_eq!(settings.endpoint.as_str(), "http://other:1/in");
        assert_eq!(settings.protocol, Protocol::HttpJson);
        assert!(!settings.is_local());
    }

    #[test]
    fn headers_and_resources_are_pairs_and_headers_are_not_shown() {
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%20ecret, x = y");
        let resource = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment=t%2C1,");
        let settings = on(&[HERE, headers, resource, ("OTEL_SERVICE_NAME", "bank")]);
        assert_eq!(settings.headers["api-key"], "s ecret");
        assert_eq!(settings.headers["x"], "y");
        let said = |key: &'static str| settings.resource.get(&key.into()).unwrap().to_string();
        assert_eq!(said("service.name"), "bank");
        assert_eq!(said("deployment.environment"), "t,1");
        assert_eq!(said("service.version"), env!("CARGO_PKG_VERSION"));
        assert!(!format!("{settings:?}").contains("ecret"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_or_passed_over() {
        let grpc = read(&[HERE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(grpc.to_string().contains("4318"), "{grpc}");
        for endpoint in ["", "127.0.0.1:4318", "ftp://x", "http://", "http://a:b@x"] {
            let read = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]);
            assert_eq!(read.is_err(), !endpoint.is_empty(), "{endpoint}");
        }
        let odd = on(&[HERE, ("OTEL_BSP_MAX_QUEUE_SIZE", "many"), ("OTEL_TRACES_SAMPLER", "xray")]);
        assert_eq!((odd.queue, odd.sampler), (2048, Sampler::default()));
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let sampler = |name: &str, arg: &str| {
            on(&[HERE, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).sampler
        };
        let of = |roots, heeds_parent| Sampler { roots, heeds_parent };
        assert_eq!(on(&[HERE]).sampler, of(Share::All, true));
        assert_eq!(sampler("always_on", ""), of(Share::All, false));
        assert_eq!(sampler("parentbased_always_off", ""), of(Share::None, true));
        assert_eq!(sampler("traceidratio", "0.25"), of(Share::Ratio(0.25), false));
        assert_eq!(sampler("parentbased_traceidratio", "7"), of(Share::All, true));
    }
}
