"""The networks: tables as printed in the paper, their costs, torch modules, and the shipped `resnet29`."""
