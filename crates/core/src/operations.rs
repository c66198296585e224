//! Tables of operations.

/// Makes the enum `Operation`, and everything that is known of an operation without its parameters: its name, what it does
/// to the inventory (`Read` or `Write`) and what its resource is. Rows follow the prefix of their actions in policies.
macro_rules! operations {
    ($(#[$attribute:meta])* pub enum Operation; $($prefix:literal; $($name:ident, $access:ident, $resource:ident;)*)*) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation { $($($name,)*)* }

        impl Operation {
            /// Every operation there is.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// Its name: on the wire, and in records.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)*)* }
            }

            /// The action that policies know it by.
            pub const fn action(self) -> &'static str {
                match self { $($(Self::$name => concat!($prefix, ":", stringify!($name)),)*)* }
            }

            /// What its resource is.
            pub const fn resource_type(self) -> $crate::iam::ResourceType {
                match self { $($(Self::$name => $crate::iam::ResourceType::$resource,)*)* }
            }

            /// Whether it changes nothing.
            pub const fn is_read_only(self) -> bool {
                matches!(
                    match self { $($(Self::$name => $crate::operations::Access::$access,)*)* },
                    $crate::operations::Access::Read
                )
            }
        }
    };
}

/// What an operation does to the inventory.
pub(crate) enum Access {
    Read,
    Write,
}

pub(crate) use operations;
