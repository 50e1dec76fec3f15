#!/bin/sh
# What deploy/gcp/cluster.yaml needs in a project, made once with gcloud:
#
#   deploy/gcp/setup.sh PROJECT REGION BUCKET
#
# A network without public addresses (out through Cloud NAT, SSH through Identity-Aware Proxy alone), two service accounts
# with the least rights, and a placement policy. Run again after a failure: what exists is left alone.
set -eu
if [ $# -ne 3 ]; then
  echo "setup.sh: say PROJECT REGION BUCKET, such as: my-project us-central1 my-runs" >&2
  exit 2
fi
project=$1
region=$2
bucket=${3#gs://}
here=$(dirname "$0")
gcloud() { command gcloud --quiet --project "$project" "$@"; }
# make DESCRIBE... -- CREATE...: create what cannot be described.
make() {
  describe=
  while [ "$1" != -- ]; do
    describe="$describe $1"
    shift
  done
  shift
  # shellcheck disable=SC2086  # words
  gcloud $describe >/dev/null 2>&1 || gcloud "$@"
}

make compute networks describe s1ray -- compute networks create s1ray --subnet-mode custom
make compute networks subnets describe s1ray --region "$region" -- \
  compute networks subnets create s1ray --network s1ray --region "$region" --range 10.77.0.0/20 \
  --enable-private-ip-google-access
make compute routers describe s1ray --region "$region" -- compute routers create s1ray --network s1ray --region "$region"
make compute routers nats describe s1ray --router s1ray --region "$region" -- \
  compute routers nats create s1ray --router s1ray --region "$region" --nat-all-subnet-ip-ranges --auto-allocate-nat-external-ips
# Nodes among themselves; SSH from the range of Identity-Aware Proxy, which asks who comes. Everything else is denied.
make compute firewall-rules describe s1ray-inside -- \
  compute firewall-rules create s1ray-inside --network s1ray --allow all --source-tags s1ray --target-tags s1ray
make compute firewall-rules describe s1ray-ssh -- \
  compute firewall-rules create s1ray-ssh --network s1ray --allow tcp:22 --source-ranges 35.235.240.0/20 --target-tags s1ray
make compute resource-policies describe s1ray --region "$region" -- \
  compute resource-policies create group-placement s1ray --region "$region" --collocation collocated

make iam roles describe s1ray.head -- iam roles create s1ray.head --file "$here/role.yaml"
for name in head worker; do
  account=s1ray-$name@$project.iam.gserviceaccount.com
  make iam service-accounts describe "$account" -- iam service-accounts create "s1ray-$name"
  gcloud storage buckets add-iam-policy-binding "gs://$bucket" --member "serviceAccount:$account" --role roles/storage.objectUser
done
head=serviceAccount:s1ray-head@$project.iam.gserviceaccount.com
gcloud projects add-iam-policy-binding "$project" --member "$head" --role "projects/$project/roles/s1ray.head" --condition None
# The head may give workers their account, and no other.
gcloud iam service-accounts add-iam-policy-binding "s1ray-worker@$project.iam.gserviceaccount.com" \
  --member "$head" --role roles/iam.serviceAccountUser
