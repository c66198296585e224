//! The instances of a snapshot, of which there may be a million.

use super::{Instance, InstanceState};
use crate::ids::{AccountId, InstanceId};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::{Bound, Index};
use std::sync::Arc;

/// The instances by their ids, those of each account, the guests of each host, and where operators say that they are.
///
/// A copy shares everything with what it was made of, and one that is changed shares what has not changed: so the next
/// snapshot costs what has changed, however many instances there are.
#[derive(Clone, Debug, Default)]
pub struct Instances {
    by_id: HashTrieMapSync<InstanceId, Arc<Instance>>,
    by_account: InstancesBy<AccountId>,
    by_host: InstancesBy<InstanceId>,
    pinned: Pinned,
}

impl Instances {
    /// The instance with this id.
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.by_id.get(id)
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.by_id.values()
    }

    /// The account's from this id on, in the order of their ids.
    pub(super) fn of_account<'i, 'a>(
        &'i self,
        account: &AccountId,
        first: &'a str,
    ) -> impl Iterator<Item = &'i Arc<Instance>> + use<'i, 'a> {
        self.by_account.with(account, first)
    }

    /// The guests of a host, in the order of their ids.
    pub(super) fn of_host(&self, host: &InstanceId) -> impl Iterator<Item = &Arc<Instance>> + use<'_> {
        self.by_host.with(host, "")
    }

    /// Whether operators say of an instance of the account, which is not gone, that it is at this address.
    pub(super) fn is_pinned(&self, account: &AccountId, address: IpAddr) -> bool {
        self.pinned.has(account, address)
    }

    /// Adds an instance, or puts it in the place of the one with its id.
    pub fn put(&mut self, instance: Arc<Instance>) {
        if let Some(before) = self.by_id.get(&instance.id) {
            self.pinned.remove(before);
            self.by_account.remove(&before.account, &before.id);
            if let Some(host) = &before.host {
                self.by_host.remove(host, &before.id);
            }
        }
        self.pinned.put(&instance);
        self.by_account.put(&instance.account, &instance);
        if let Some(host) = &instance.host {
            self.by_host.put(host, &instance);
        }
        self.by_id.insert_mut(instance.id.clone(), instance);
    }
}

impl Index<&InstanceId> for Instances {
    type Output = Arc<Instance>;

    #[expect(clippy::indexing_slicing, reason = "whoever indexes a map says that it has the key")]
    fn index(&self, id: &InstanceId) -> &Arc<Instance> {
        &self.by_id[id]
    }
}

impl FromIterator<Arc<Instance>> for Instances {
    fn from_iter<I: IntoIterator<Item = Arc<Instance>>>(instances: I) -> Self {
        let mut all = Self::default();
        instances.into_iter().for_each(|instance| all.put(instance));
        all
    }
}

/// Instances by something that several have in common, in the order of their ids.
#[derive(Clone, Debug)]
struct InstancesBy<K: Eq + Hash>(HashTrieMapSync<K, RedBlackTreeSetSync<ById>>);

impl<K: Clone + Eq + Hash> InstancesBy<K> {
    fn with<'i, 'a>(
        &'i self,
        key: &K,
        first: &'a str,
    ) -> impl Iterator<Item = &'i Arc<Instance>> + use<'i, 'a, K> {
        let from_first = (Bound::Included(first), Bound::Unbounded);
        let with_it = self.0.get(key).map(|instances| instances.range::<str, _>(from_first));
        with_it.into_iter().flatten().map(|ById(instance)| instance)
    }

    fn put(&mut self, key: &K, instance: &Arc<Instance>) {
        let instance = ById(Arc::clone(instance));
        if let Some(instances) = self.0.get_mut(key) {
            instances.insert_mut(instance);
        } else {
            self.0.insert_mut(key.clone(), RedBlackTreeSetSync::new_sync().insert(instance));
        }
    }

    fn remove(&mut self, key: &K, id: &InstanceId) {
        if let Some(instances) = self.0.get_mut(key) {
            instances.remove_mut(id.as_str());
        }
    }
}

impl<K: Eq + Hash> Default for InstancesBy<K> {
    fn default() -> Self {
        Self(HashTrieMapSync::default())
    }
}

/// How many instances of an account operators say are at an address. Machines that are gone keep no others from theirs.
#[derive(Clone, Debug, Default)]
struct Pinned(HashTrieMapSync<AccountId, HashTrieMapSync<IpAddr, usize>>);

impl Pinned {
    fn has(&self, account: &AccountId, address: IpAddr) -> bool {
        self.0.get(account).is_some_and(|pinned| pinned.contains_key(&address))
    }

    fn put(&mut self, instance: &Instance) {
        self.count(instance, |others| Some(others + 1));
    }

    fn remove(&mut self, instance: &Instance) {
        self.count(instance, |all| all.checked_sub(1).filter(|others| *others > 0));
    }

    fn count(&mut self, instance: &Instance, changed: impl Fn(usize) -> Option<usize>) {
        for address in Self::of(instance) {
            if !self.0.contains_key(&instance.account) {
                self.0.insert_mut(instance.account.clone(), HashTrieMapSync::default());
            }
            let Some(pinned) = self.0.get_mut(&instance.account) else { continue };
            match changed(pinned.get(&address).copied().unwrap_or_default()) {
                Some(count) => pinned.insert_mut(address, count),
                None => {
                    pinned.remove_mut(&address);
                }
            }
        }
    }

    fn of(instance: &Instance) -> impl Iterator<Item = IpAddr> + use<> {
        let is_there = instance.state != InstanceState::Terminated;
        instance.details.addresses().iter().filter(move |_| is_there)
    }
}

/// An instance, compared by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Instance>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::InstanceDetails;
    use instance_connect_document::UnixSeconds;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn id(number: u8) -> InstanceId {
        format!("i-{number:08x}").parse().unwrap()
    }

    fn account(number: u8) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, number)
    }

    fn instance(number: u8, of: u8, host: Option<u8>) -> Arc<Instance> {
        Arc::new(placed(number, of, host, None))
    }

    /// One that operators say is at the address of this number.
    fn placed(number: u8, of: u8, host: Option<u8>, at: Option<u8>) -> Instance {
        Instance {
            id: id(number),
            account: account(of),
            region: "us-east-1".parse().unwrap(),
            availability_zone: "us-east-1a".parse().unwrap(),
            state: InstanceState::Running,
            tags: BTreeMap::new(),
            host: host.map(id),
            details: InstanceDetails { private_ip: at.map(address), ..InstanceDetails::default() },
            launched_at: UnixSeconds(0),
        }
    }

    /// Every answer there is.
    fn all(instances: &Instances) -> impl PartialEq + std::fmt::Debug + use<> {
        fn shown<'i>(found: impl Iterator<Item = &'i Arc<Instance>>) -> Vec<String> {
            found.map(|instance| format!("{instance:?}")).collect()
        }
        let mut values = shown(instances.values());
        values.sort();
        let got: Vec<_> = (0..8).map(|number| instances.get(&id(number)).cloned()).collect();
        let of_accounts: Vec<_> = (0..3)
            .flat_map(|of| (0..8).map(move |first| (of, first)))
            .map(|(of, first)| shown(instances.of_account(&account(of), id(first).as_str())))
            .collect();
        let of_hosts: Vec<_> = (0..8).map(|host| shown(instances.of_host(&id(host)))).collect();
        let pinned: Vec<_> = (0..3)
            .flat_map(|of| (0..3).map(move |number| (of, number)))
            .map(|(of, number)| instances.is_pinned(&account(of), address(number).into()))
            .collect();
        (values, got, of_accounts, of_hosts, pinned)
    }

    #[test]
    fn instances_are_found_from_an_id_on() {
        let some =
            [instance(3, 1, None), instance(1, 1, None), instance(2, 2, None), instance(7, 1, Some(3))];
        let instances: Instances = some.into_iter().collect();
        let from = |of, first: &str| {
            let found = instances.of_account(&account(of), first);
            found.map(|instance| instance.id.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(from(1, ""), ["i-00000001", "i-00000003", "i-00000007"]);
        assert_eq!(from(1, "i-00000003"), ["i-00000003", "i-00000007"]);
        // Not only ids are in an order.
        assert_eq!(from(1, "i-00000001/Name"), ["i-00000003", "i-00000007"]);
        assert_eq!(from(1, "j"), Vec::<String>::new());
        assert_eq!((from(2, ""), from(3, "")), (vec!["i-00000002".to_owned()], vec![]));
        assert_eq!(instances.get(&id(7)).unwrap().machine(), &id(3));
        assert_eq!(instances.get(&id(3)).unwrap().machine(), &id(3));
        assert_eq!(instances.of_host(&id(3)).map(|guest| &guest.id).collect::<Vec<_>>(), [&id(7)]);
    }

    #[test]
    fn an_address_is_pinned_for_as_long_as_somebody_has_it() {
        let mut instances: Instances =
            [placed(1, 1, None, Some(1)), placed(2, 1, None, Some(1))].into_iter().map(Arc::new).collect();
        let is_pinned = |instances: &Instances, of| instances.is_pinned(&account(of), address(1).into());
        assert!(is_pinned(&instances, 1) && !is_pinned(&instances, 2));
        instances.put(instance(1, 1, None));
        assert!(is_pinned(&instances, 1), "the other has it");
        let gone = Instance { state: InstanceState::Terminated, ..placed(2, 1, None, Some(1)) };
        instances.put(Arc::new(gone));
        assert!(!is_pinned(&instances, 1));
    }

    proptest! {
        /// One that was changed again and again is the same as one that was made at once, and leaves what it was made of as it
        /// was.
        #[test]
        fn changed_copies_are_as_if_made_at_once(
            puts in proptest::collection::vec(
                (0..8u8, 0..3u8, proptest::option::of(0..8u8), proptest::option::of(0..3u8), any::<bool>()), 0..40
            )
        ) {
            let (mut changed, mut expected) = (Instances::default(), BTreeMap::new());
            for (number, of, host, at, is_gone) in puts {
                let state = if is_gone { InstanceState::Terminated } else { InstanceState::Running };
                let instance = Arc::new(Instance { state, ..placed(number, of, host, at) });
                let (before, then) = (changed.clone(), all(&changed));
                changed.put(Arc::clone(&instance));
                expected.insert(number, instance);
                prop_assert_eq!(all(&changed), all(&expected.values().cloned().collect()));
                prop_assert_eq!(all(&before), then);
            }
        }
    }
}
