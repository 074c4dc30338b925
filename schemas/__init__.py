"""Data contracts: what each dataset is, in one class a dataset. Pure, no I/O."""
