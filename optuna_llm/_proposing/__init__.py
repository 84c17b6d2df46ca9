"""Who proposes a trial: a model asked and asked again, proposals made ahead, claims."""
