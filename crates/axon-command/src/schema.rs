//! `axon schema`: JSON Schemas of what users write and read.

use axon_kernel::config::Config;
use axon_kernel::event::Sequenced;
use axon_kernel::flow::{PipelineFile, RouterFile};
use axon_kernel::spec::AgentFile;

use crate::args::{SchemaArgs, SchemaOf};
use crate::exit::Exit;
use crate::report::Report;
use crate::terminal;

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, Report> {
    let schema = match args.of {
        SchemaOf::Agent => AgentFile::schema(),
        SchemaOf::Router => RouterFile::schema(),
        SchemaOf::Pipeline => PipelineFile::schema(),
        SchemaOf::Config => Config::schema(),
        SchemaOf::Events => schemars::schema_for!(Sequenced).to_value(),
    };
    terminal::answer(&format!("{schema:#}"))?;
    Ok(Exit::OK)
}
