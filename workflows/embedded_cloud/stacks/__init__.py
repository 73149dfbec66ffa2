"""How CloudFormation makes, changes and deletes stacks; moto keeps them and has the models of resources."""
