//! Every route, once, with the rights that it needs.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use martlet_control::principal::Scope;
use utoipa::OpenApi as _;
use utoipa_axum::routes;

use crate::access::Access::{Known, Open, Scoped};
use crate::api::Api;
use crate::openapi;
use crate::openapi::document::Document;
use crate::route_list::{Form, Routes};
use crate::{
    admin, alarms, backup, bridges, clients, compat, docs, document_page, event_archive, events,
    explain, firmware, frame, health, history, integrations, lockouts, logs, mqtt_session,
    node_setup, problem, publish, registry, request, retained, rules, secrets, session, setup,
    subscriptions, telemetry, topics, traces, webhooks, why,
};

/// The routes of a node. The listener puts [`HttpConnection`](crate::HttpConnection) into the
/// extensions of each request: how it came in.
pub fn router(api: Api) -> Router {
    // It is made the same way for all listeners of a node.
    let _ = api.make_document.set(document);
    let routes = declared(Routes::new(&api, Form::Router(Router::new())));
    let router = match compat::has_root(&api) {
        true => routes.router(),
        false => routes.router().route("/", get(docs::root)),
    };
    let (index, index_script) = compat::pages(&api);
    router
        .route("/docs", get(docs::slash))
        .route("/docs/", get(docs::index))
        .route("/docs/index.html", index)
        .route("/docs/device-service.js", index_script)
        .route("/docs/{file}", get(docs::file))
        .route("/setup", get(docs::setup))
        .route("/setup.js", get(docs::setup_script))
        .fallback(problem::not_found)
        // The frame bounds bodies, by what is configured.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(api.clone(), frame::around))
        .with_state(api)
}

/// The document that describes them. Making it takes much more memory than it has bytes, so that it
/// is made when it is asked for.
fn document(api: &Api) -> Document {
    let form = Form::Document(Box::new(openapi::Base::openapi()));
    let mut document = declared(Routes::new(api, form)).document();
    openapi::with_schemes(&mut document, &api.routes.compat);
    openapi::with_plain_paths(&mut document);
    openapi::with_optional_bodies(&mut document);
    openapi::with_scopes(&mut document);
    let tags = document.tags.get_or_insert_default();
    tags.extend(compat::tags(api));
    document.info.version = api.control.info.version.to_owned();
    Document::new(&document)
}

// Table: the routes of the interface.
fn declared(routes: Routes) -> Routes {
    let routes = routes
        .add(Open, routes!(health::live))
        .add(Open, routes!(health::ready))
        .add(Open, routes!(health::startup))
        .add(Open, routes!(health::healthz))
        .add(Open, routes!(health::livez))
        .add(Open, routes!(health::readyz))
        .add(Open, routes!(health::metrics))
        .add(Scoped(Scope::NodeRead), routes!(health::health))
        .add(Open, routes!(document_page::show))
        .add(Open, routes!(docs::explain))
        .add(Scoped(Scope::NodeRead), routes!(admin::status))
        .add(Scoped(Scope::NodeRead), routes!(admin::traffic))
        .add(Scoped(Scope::NodeRead), routes!(history::history))
        .add(Scoped(Scope::NodeWrite), routes!(admin::shutdown))
        .add(Scoped(Scope::NodeWrite), routes!(admin::reload))
        .add(Scoped(Scope::BackupRead), routes!(backup::backup))
        .add(Scoped(Scope::NodeRead), routes!(admin::version))
        .add(Scoped(Scope::NodeRead), routes!(node_setup::listeners))
        .add(Scoped(Scope::NodeRead), routes!(node_setup::certificates))
        .add(
            Scoped(Scope::ConfigRead),
            routes!(node_setup::configuration),
        )
        .add(Scoped(Scope::ClientsRead), routes!(clients::list))
        .add(Scoped(Scope::ClientsRead), routes!(clients::show))
        .add(Scoped(Scope::ClientsWrite), routes!(clients::kick))
        .add(Scoped(Scope::ClientsRead), routes!(mqtt_session::list))
        .add(Scoped(Scope::ClientsRead), routes!(mqtt_session::show))
        .add(Scoped(Scope::ClientsWrite), routes!(mqtt_session::end))
        .add(Scoped(Scope::ClientsRead), routes!(subscriptions::list))
        .add(
            Scoped(Scope::ClientsRead),
            routes!(subscriptions::of_client),
        )
        .add(
            Scoped(Scope::ClientsWrite),
            routes!(subscriptions::subscribe),
        )
        .add(
            Scoped(Scope::ClientsWrite),
            routes!(subscriptions::unsubscribe),
        )
        .add(Scoped(Scope::RetainedRead), routes!(retained::list))
        .add(Scoped(Scope::RetainedRead), routes!(retained::show))
        .add(Scoped(Scope::RetainedWrite), routes!(retained::delete))
        .add(Scoped(Scope::RetainedWrite), routes!(retained::delete_one))
        .add(Scoped(Scope::MessagesRead), routes!(topics::list))
        .add(Scoped(Scope::MessagesRead), routes!(topics::history))
        .add_busy(Scoped(Scope::MessagesWrite), routes!(publish::publish))
        .add_busy(Scoped(Scope::MessagesWrite), routes!(publish::publish_bulk))
        .add(Scoped(Scope::MessagesWrite), routes!(request::request))
        .add(Scoped(Scope::ClientsRead), routes!(lockouts::list))
        .add(Scoped(Scope::ClientsWrite), routes!(lockouts::lift))
        .add(Scoped(Scope::ClientsWrite), routes!(lockouts::forget))
        .add(Scoped(Scope::AclRead), routes!(explain::explain))
        .add(Scoped(Scope::EventsRead), routes!(events::events))
        .add(Scoped(Scope::EventsRead), routes!(event_archive::archive))
        .add(Scoped(Scope::ClientsRead), routes!(why::why))
        .add(Scoped(Scope::NodeRead), routes!(logs::lines))
        .add(Scoped(Scope::NodeRead), routes!(logs::levels))
        .add(Scoped(Scope::NodeWrite), routes!(logs::change))
        .add(Scoped(Scope::NodeRead), routes!(traces::list))
        .add(Scoped(Scope::NodeWrite), routes!(traces::begin))
        .add(Scoped(Scope::NodeWrite), routes!(traces::end))
        .add(Scoped(Scope::IntegrationsRead), routes!(integrations::list))
        .add(Scoped(Scope::IntegrationsRead), routes!(integrations::show))
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::pause),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::resume),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::skip),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::drain),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::test),
        )
        .add(
            Scoped(Scope::IntegrationsRead),
            routes!(integrations::letters),
        )
        .add(
            Scoped(Scope::IntegrationsRead),
            routes!(integrations::letter),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::send_again),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::drop_one),
        )
        .add(
            Scoped(Scope::IntegrationsWrite),
            routes!(integrations::drop_all),
        )
        .add_of_tables(Scoped(Scope::IntegrationsRead), routes!(bridges::list))
        .add_of_tables(Scoped(Scope::IntegrationsRead), routes!(bridges::show))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(bridges::set))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(bridges::remove))
        .add_of_tables(Scoped(Scope::IntegrationsRead), routes!(webhooks::list))
        .add_of_tables(Scoped(Scope::IntegrationsRead), routes!(webhooks::show))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(webhooks::set))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(webhooks::remove))
        .add_of_tables(Scoped(Scope::IntegrationsRead), routes!(secrets::list))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(secrets::set))
        .add_of_tables(Scoped(Scope::IntegrationsWrite), routes!(secrets::remove))
        .add(Known, routes!(session::show))
        .add(Known, routes!(session::end))
        .add(Open, routes!(session::begin))
        .add(Open, routes!(setup::make));
    let routes = alarms::add_to(rules::add_to(routes));
    let routes = firmware::add_to(telemetry::add_to(registry::add_to(routes)));
    compat::add_to(routes)
}
