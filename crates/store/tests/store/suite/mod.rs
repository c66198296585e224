//! What every store does, whatever it is made of. [`store_suite`] runs all of it for one engine.

/// Makes a test of each case, for one engine.
macro_rules! store_suite {
    ($engine:ty: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                $crate::suite::$case(<$engine as $crate::engine::Engine>::new().await).await;
            }
        )*
    };
    ($engine:ty) => {
        $crate::suite::store_suite! { $engine:
            accounts users user_policies access_keys instances several_instances_are_changed_all_or_none
            only_the_instances_that_have_changed_are_read_again whoever_knows_another_history_reads_all_again
            hosts tags_are_bounded join_tokens agents
            anchors_roll_over stock_signers_rotate of_many_that_rotate_one_does
            what_commands_do_is_left_until_it_is_forgotten
            groups group_policies managed_policies permissions_boundaries user_tags roots
            policies_that_mean_less_than_they_say_are_warned_of
            groups_and_attachments_are_bounded
            inline_policies_are_bounded_together
            refusals_are_checked_in_order lapsed_tokens_are_dropped_a_day_later
            a_token_is_redeemed_once_however_many_try one_enrolment_wins_without_replace
            nobody_is_host_and_guest_however_many_try
            the_first_account_is_the_management_account an_account_comes_with_its_root_and_a_key
            account_details_are_what_was_stored signatures_are_used_once
            revocations_are_kept_while_a_signature_can_be_good revocations_are_bounded
            many_revocations_on_one_instance_keep_nobody_from_another
            the_first_host_keys_are_pinned_and_others_wait another_instances_host_key_is_never_pinned
            a_claimed_host_key_is_taken_from_the_instance_that_is_named
            whom_a_host_key_was_taken_from_has_no_second_first_report
            host_facts_are_kept_as_the_agent_says_them
            what_an_agent_that_was_replaced_or_revoked_says_does_not_count
            host_keys_are_accepted_as_they_were_shown what_a_revoked_identity_reports_does_not_count
            authorities starters_agree_on_an_authority a_snapshot_is_of_one_moment
            limits_hold_however_many_attach a_policy_is_attached_or_deleted_never_both
            a_stored_policy_that_cannot_be_evaluated_suspends_whom_it_bears_on secrets_are_nowhere_in_clear
            moved_secrets_do_not_open another_master_key_is_refused everything_survives_a_restart
        }
    };
}

/// The call succeeds and raises the sequence by one.
macro_rules! changes {
    ($store:ident.$method:ident($($argument:expr),*)) => {{
        let before = $store.sequence().await.unwrap();
        let answer = $store.$method($($argument),*).await.unwrap();
        assert_eq!($store.sequence().await.unwrap(), before + 1, "the sequence after {}", stringify!($method));
        answer
    }};
}

/// The call fails as expected and changes nothing.
macro_rules! refuses {
    ($store:ident.$method:ident($($argument:expr),*), $error:pat) => {{
        let before = view(&*$store).await;
        let error = $store.$method($($argument),*).await.unwrap_err();
        assert!(matches!(error, $error), "{} said {error:?}", stringify!($method));
        assert_eq!(view(&*$store).await, before, "the snapshot after {}", stringify!($method));
    }};
}

pub(crate) use store_suite;

mod administration;
mod faults;
mod host_facts;
mod host_keys;
mod iam;
mod methods;
mod races;

pub(crate) use administration::*;
pub(crate) use faults::*;
pub(crate) use host_facts::*;
pub(crate) use host_keys::*;
pub(crate) use iam::*;
pub(crate) use methods::*;
pub(crate) use races::*;
