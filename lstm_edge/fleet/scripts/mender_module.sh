#!/bin/sh
# Update module of Mender for models: /usr/share/mender/modules/v3/lstm-edge-model on a device. Mender calls it with the
# name of a state and a folder; files/ in it has what `lstm-edge bundle --format mender` packed.
set -u
state=$1
files=$2/files
case $state in
  NeedsArtifactReboot) echo No ;;
  SupportsRollback) echo Yes ;;
  ArtifactInstall) sh "$files/install.sh" --trial ;;
  ArtifactCommit) sh "$files/install.sh" --commit ;;
  ArtifactRollback) sh "$files/install.sh" --back ;;
esac
