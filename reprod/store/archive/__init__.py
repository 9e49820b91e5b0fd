"""The runs of record in files that travel with the checkout: `archive/<paper>.zip`.

`format` is the file, `store` reads runs from it as `Store` does from MLflow, `take` puts runs into it, `restore` brings
them into a store, `crate` describes it as an RO-Crate. Neither `format` nor `store` needs MLflow.
"""
