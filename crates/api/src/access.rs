//! Access rules of routes, and where is written down what they change.

use martlet_control::principal::Scope;

/// Access rule of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: it changes nothing, or takes its proof in the body.
    Open,
    /// Every authenticated caller.
    Known,
    /// Callers with this scope.
    Scoped(Scope),
    /// Callers with the first scope; callers that see one team only, and cannot have that scope,
    /// need the second. The route shows them only the objects of their team.
    ScopedOrOfTeam(Scope, Scope),
    /// The device whose secret the request shows. On routes of another system alone.
    OfDevice,
    /// Callers with this scope, and requests of this machine without credentials.
    ScopedOrLocal(Scope),
    /// Callers with this scope, or the device whose secret the request shows. The route shows a
    /// device only what is its own.
    ScopedOrOfDevice(Scope),
}

/// Where what a route changes is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audited {
    /// Here, by its method and path.
    Here,
    /// Here, and soon: the caller does not wait for it.
    Soon,
    /// With what is changed, in the same transaction; here only what went wrong.
    InTables,
    /// Nowhere: it changes nothing, though it is a POST, or devices send it again and again.
    Nowhere,
}
