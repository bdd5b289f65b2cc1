//! Claims that hold on either database.

/// Defines claims. On SQLite each is a test of its own; on PostgreSQL they are one test, because
/// they share one server.
macro_rules! claims {
    ($(async fn $name:ident($place:ident: &Place) $body:block)*) => {
        mod held {
            use super::*;
            $(pub(super) async fn $name($place: &Place) $body)*
        }

        mod sqlite {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                held::$name(&Place::file()).await;
            })*
        }

        #[tokio::test]
        async fn postgres_holds_every_claim_of_this_file() {
            let Some(server) = axon_test::Postgres::start_if_installed().await.unwrap() else {
                return;
            };
            $({
                println!("{}", stringify!($name));
                let place = Place::on(&server, stringify!($name)).await;
                held::$name(&place).await;
            })*
        }
    };
}
pub(crate) use claims;
