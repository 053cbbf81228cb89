//! The macro that makes the list of an object's fields into its types.

/// Makes the list of an object's fields into the object, a new one and a change, and
/// [`Object`](super::table::Object).
///
/// * `kept`: fields that the node sets. Each has its column, its type and its uses.
/// * `times`: the same, in milliseconds since the Unix epoch; 0: never. JSON has them as RFC 3339,
///   by another name.
/// * `derived`: fields that are read by an expression.
/// * `filled`: fields that other tables have; they are empty when the object is read.
/// * `given`: fields that are given once. Each has also its type in a new object, and its check.
/// * `set` of a change: fields that are given, and changed later.
/// * `lists` of a change: the same, from other tables.
/// * Beside the new object's name: what is given once and no field of the object.
///
/// `@[…]` is an attribute of the field in all types that have it.
macro_rules! object {
    (
        $(#[$row_meta:meta])*
        $Row:ident in $table:literal;
        $(#[$new_meta:meta])*
        new $New:ident $({
            $( $(#[$o_meta:meta])* $o:ident: $o_type:ty; )*
        })?
        kept {
            $( $(#[doc = $k_doc:tt])* $(@[$k_meta:meta])*
                $k:ident ($k_column:literal): $k_type:ty, [$($k_use:ident),*]; )*
        }
        times {
            $( $(#[doc = $t_doc:tt])* $t:ident as $t_name:tt, [$($t_use:ident),*]; )*
        }
        $(derived {
            $( $(#[doc = $d_doc:tt])* $(@[$d_meta:meta])* $d:ident: $d_type:ty = $d_sql:literal; )*
        })?
        $(filled {
            $( $(#[doc = $f_doc:tt])* $(@[$f_meta:meta])* $f:ident: $f_type:ty; )*
        })?
        $(given {
            $( $(#[doc = $g_doc:tt])* $(@[$g_meta:meta])*
                $g:ident ($g_column:literal): $g_type:ty,
                new $(#[$g_new_meta:meta])* $g_new:ty,
                check $g_check:expr, [$($g_use:ident),*]; )*
        })?
        $(
            $(#[$change_meta:meta])*
            change $Change:ident
            set {
                $( $(#[doc = $s_doc:tt])* $(@[$s_meta:meta])*
                    $s:ident ($s_column:literal): $s_type:ty,
                    new $(#[$s_new_meta:meta])* $s_new:ty,
                    check $s_check:expr, [$($s_use:ident),*]; )*
            }
            $(lists {
                $( $(#[doc = $l_doc:tt])* $l:ident: $l_type:ty; )*
            })?
        )?
    ) => {
        $(#[$row_meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
        pub struct $Row {
            $( $(#[doc = $k_doc])* $(#[$k_meta])* pub $k: $k_type, )*
            $($( $(#[doc = $g_doc])* $(#[$g_meta])* pub $g: $g_type, )*)?
            $($( $(#[doc = $s_doc])* $(#[$s_meta])* pub $s: $s_type, )*)?
            $($($( $(#[doc = $l_doc])* pub $l: $l_type, )*)?)?
            $($( $(#[doc = $d_doc])* $(#[$d_meta])* pub $d: $d_type, )*)?
            $($( $(#[doc = $f_doc])* $(#[$f_meta])* pub $f: $f_type, )*)?
            $(
                $(#[doc = $t_doc])*
                #[serde(rename = $t_name, serialize_with = "crate::object::time::serialize")]
                #[schema(value_type = Option<String>, format = DateTime)]
                pub $t: i64,
            )*
        }

        $(#[$new_meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $New {
            $($( $(#[$o_meta])* pub $o: $o_type, )*)?
            $($( $(#[doc = $g_doc])* $(#[$g_meta])* $(#[$g_new_meta])* pub $g: $g_new, )*)?
            $($( $(#[doc = $s_doc])* $(#[$s_meta])* $(#[$s_new_meta])* pub $s: $s_new, )*)?
            $($($( $(#[doc = $l_doc])* #[serde(default)] pub $l: $l_type, )*)?)?
        }

        $(
            $(#[$change_meta])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
            #[serde(deny_unknown_fields)]
            pub struct $Change {
                $( $(#[doc = $s_doc])* $(#[$s_meta])* pub $s: Option<$s_type>, )*
                $($( $(#[doc = $l_doc])* pub $l: Option<$l_type>, )*)?
            }

            impl $Row {
                /// Fields that a request may set and change, in their order.
                pub const SETTABLE: &'static [crate::object::table::SettableField] = &[
                    $(crate::object::table::SettableField {
                        name: $s_column,
                        doc: concat!($($s_doc),*),
                    },)*
                ];

                /// Sets the fields that a change names. Values that differ are checked, each by
                /// itself.
                pub(crate) fn set_values(
                    &mut self,
                    change: $Change,
                ) -> Result<(), crate::RegistryError> {
                    $(if let Some(value) = change.$s.filter(|value| *value != self.$s) {
                        ($s_check)(&value)?;
                        self.$s = value;
                    })*
                    Ok(())
                }
            }
        )?

        impl crate::object::table::Object for $Row {
            const TABLE: &'static str = $table;

            const FIELDS: &'static [crate::object::table::Field<Self>] = &[
                $(crate::object::table::Field {
                    column: $k_column,
                    is_changed_by_api: false,
                    uses: &[$(crate::object::table::Use::$k_use),*],
                    value: |object| &object.$k,
                },)*
                $(crate::object::table::Field {
                    column: stringify!($t),
                    is_changed_by_api: false,
                    uses: &[$(crate::object::table::Use::$t_use),*],
                    value: |object| &object.$t,
                },)*
                $($(crate::object::table::Field {
                    column: $g_column,
                    is_changed_by_api: false,
                    uses: &[$(crate::object::table::Use::$g_use),*],
                    value: |object| &object.$g,
                },)*)?
                $($(crate::object::table::Field {
                    column: $s_column,
                    is_changed_by_api: true,
                    uses: &[$(crate::object::table::Use::$s_use),*],
                    value: |object| &object.$s,
                },)*)?
            ];

            const DERIVED: &'static [&'static str] =
                &[$($(concat!("(", $d_sql, ") AS ", stringify!($d)),)*)?];

            fn read(row: &sqlx::any::AnyRow) -> Result<Self, crate::sql::Fault> {
                use crate::object::value::FieldValue;
                Ok(Self {
                    $($k: FieldValue::read(row, $k_column)?,)*
                    $($($g: FieldValue::read(row, $g_column)?,)*)?
                    $($($s: FieldValue::read(row, $s_column)?,)*)?
                    $($($($l: Default::default(),)*)?)?
                    $($($d: FieldValue::read(row, stringify!($d))?,)*)?
                    $($($f: Default::default(),)*)?
                    $($t: FieldValue::read(row, stringify!($t))?,)*
                })
            }
        }

        impl $Row {
            /// Names of the fields in JSON that only the node sets.
            pub const SET_BY_NODE: &'static [&'static str] = &[
                $(stringify!($k),)*
                $($(stringify!($d),)*)?
                $($(stringify!($f),)*)?
                $($t_name,)*
            ];

            /// The object that a new one becomes, without what the node sets.
            pub(crate) fn begun(new: $New) -> Self {
                use crate::object::value::Given;
                Self {
                    $($k: Default::default(),)*
                    $($($g: Given::given(new.$g),)*)?
                    $($($s: Given::given(new.$s),)*)?
                    $($($($l: new.$l,)*)?)?
                    $($($d: Default::default(),)*)?
                    $($($f: Default::default(),)*)?
                    $($t: 0,)*
                }
            }

            /// Checks what is given, each value by itself.
            pub(crate) fn check_values(&self) -> Result<(), crate::RegistryError> {
                $($(($g_check)(&self.$g)?;)*)?
                $($(($s_check)(&self.$s)?;)*)?
                Ok(())
            }
        }
    };
}

pub(crate) use object;
