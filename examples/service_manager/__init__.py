"""Several services behind one orchestrator, each called by its name: the article's `ai_service_manager`."""
