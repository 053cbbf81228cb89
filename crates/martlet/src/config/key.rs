//! Paths of keys.

/// The path of a key, such as `key!(mqtt.max_qos)`: the compiler checks that the key exists.
macro_rules! key {
    ($section:ident.$key:ident) => {{
        const _: fn(&$crate::config::Settings) = |settings| {
            let _ = &settings.$section.$key;
        };
        concat!(stringify!($section), ".", stringify!($key))
    }};
}

pub(crate) use key;
