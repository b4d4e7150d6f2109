"""The rules behind `RuleTeacher`: English grammar by rule, phrasings in YAML files beside it."""
