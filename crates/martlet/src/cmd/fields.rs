//! Options for the fields of an object, made from the list of its fields. A new field has its
//! option without more.

use std::marker::PhantomData;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use martlet_registry::{Device, Group, SettableField, Team, User};
use serde_json::{Map, Value};

/// An object whose fields are options of commands.
pub(crate) trait ObjectOptions {
    /// Fields that requests set.
    const FIELDS: &'static [SettableField];

    /// Fields for which commands have options of their own.
    const OTHER: &'static [&'static str];
}

impl ObjectOptions for Device {
    const FIELDS: &'static [SettableField] = Self::SETTABLE;
    const OTHER: &'static [&'static str] = &["name", "type", "status", "team"];
}

impl ObjectOptions for Group {
    const FIELDS: &'static [SettableField] = Self::SETTABLE;
    const OTHER: &'static [&'static str] = &["name"];
}

impl ObjectOptions for Team {
    const FIELDS: &'static [SettableField] = Self::SETTABLE;
    const OTHER: &'static [&'static str] = &["name"];
}

impl ObjectOptions for User {
    const FIELDS: &'static [SettableField] = Self::SETTABLE;
    const OTHER: &'static [&'static str] = &["role", "api_role", "enabled", "team"];
}

/// The fields of an object that have no other options.
fn fields<O: ObjectOptions>() -> impl Iterator<Item = &'static SettableField> {
    let fields = O::FIELDS.iter();
    fields.filter(|field| !O::OTHER.contains(&field.name))
}

/// Names of the options, for rules about several of them.
pub(crate) fn names<O: ObjectOptions>() -> impl Iterator<Item = &'static str> {
    fields::<O>().map(|field| field.name)
}

/// Values of the fields that are given.
pub(crate) struct FieldOptions<O> {
    given: Map<String, Value>,
    of: PhantomData<fn() -> O>,
}

impl<O> std::fmt::Debug for FieldOptions<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.given.fmt(f)
    }
}

impl<O> FieldOptions<O> {
    /// Adds the fields that are given to the body of a request.
    pub(crate) fn add_to(&self, body: &mut Value) {
        if let Value::Object(body) = body {
            body.extend(self.given.clone());
        }
    }
}

impl<O: ObjectOptions> FromArgMatches for FieldOptions<O> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = names::<O>().filter_map(|name| {
            let value = matches.get_one::<String>(name)?;
            Some((name.to_owned(), value.clone().into()))
        });
        Ok(Self {
            given: given.collect(),
            of: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<O: ObjectOptions> Args for FieldOptions<O> {
    fn augment_args(command: Command) -> Command {
        let option = |field: &SettableField| {
            let help = field.doc.trim().trim_end_matches('.').replace('`', "");
            let value = match field.name {
                "owner" => "USER",
                _ => "TEXT",
            };
            Arg::new(field.name)
                .long(field.name.replace('_', "-"))
                .value_name(value)
                .help(help)
        };
        command.args(fields::<O>().map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
